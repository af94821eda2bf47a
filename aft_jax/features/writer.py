"""Writing a feature store, shard by shard, so that a kill loses one shard and no reader is misled.

plan.json         first: what the store is, see `Plan`; another one may not go on with it
features/c/3/0    a shard, see `shards`
views/c/3/0       with stored views: top, left, height, width and flip of each row, int32
done/00003.json   after its shard: the hashes of its files, the seconds it took to compute
ids.txt           example ids, one a line, in row order
manifest.json     last: the plan and the hashes of all files; without it nobody reads the store
"""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from aft_jax.data import ids_digest
from aft_jax.errors import StoreError
from aft_jax.features import shards
from aft_jax.features.kv import Directory
from aft_jax.features.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    PLAN,
    Manifest,
    Plan,
    read_manifest,
    read_plan,
    render_manifest,
    render_plan,
    require,
)

_LOG = logging.getLogger(__name__)

IDS = "ids.txt"
WAIT_SECONDS = 3600.0
"""How long the first process waits for the next shard of the others."""
POLL_SECONDS = 2.0


def check_ids(ids: np.ndarray) -> None:
    """Refuses ids by which rows could not be found.

    Args:
        ids: [n] example ids.

    Raises:
        StoreError: there are none, one repeats, or one has a line break.
    """
    unique, counts = np.unique(ids, return_counts=True)
    if not len(ids):
        raise StoreError(
            "a feature store has at least one example; the split is empty. "
            "Look at config.data.train and config.data.tune."
        )
    if len(unique) < len(ids):
        raise StoreError(
            f"example ids are unique; {str(unique[counts > 1][0])!r} and "
            f"{np.count_nonzero(counts > 1) - 1} others repeat. Make the data source tell them "
            "apart."
        )
    broken = [name for name in ids.tolist() if "\n" in name]
    if broken:
        raise StoreError(
            f"example ids are stored one a line; {broken[0]!r} has a line break. "
            "Make the data source replace it."
        )


def make_plan(
    ids: np.ndarray,
    parts: Mapping[str, tuple[int, int]],
    *,
    dtype: str = "float32",
    processes: int = 1,
    **described: Any,
) -> Plan:
    """The plan of a store.

    Args:
        ids: [n] example ids.
        parts: part of the teacher's output -> its [start, stop) columns.
        dtype: to store features in.
        processes: hosts that write together.
        **described: the other fields; those that follow from `ids` may be left out, or agree.

    Returns:
        The plan.

    Raises:
        StoreError: a field contradicts the ids.
    """
    follows = {"dataset_rows": len(ids), "dataset_ids_sha256": ids_digest(ids)}
    for name, value in follows.items():
        if described.get(name, value) != value:
            raise StoreError(
                f"a store is described as what it holds; {name} was given as "
                f"{described[name]!r}, the ids have {value!r}. Describe the data set of these ids."
            )
    described = {"views": 0, "augmentation": ""} | described | follows
    width = max(stop for _, stop in parts.values())
    rows = len(ids) * max(1, described["views"])
    row_bytes = width * shards.numpy_dtype(dtype).itemsize
    return Plan(
        format_version=FORMAT_VERSION,
        dtype=dtype,
        shape=(rows, width),
        parts=dict(parts),
        shard_rows=shards.shard_rows(rows, row_bytes, described["views"], processes),
        **described,
    )


class StoreWriter:
    """A store in the making.

    Attributes:
        store: its directory.
        ids: [n] example ids.
        plan: what it will be.
    """

    def __init__(self, store: Directory, ids: np.ndarray, plan: Plan):
        """Begins a store, or goes on with one that was begun by the same plan.

        Raises:
            StoreError: the ids cannot be stored, or another plan has begun here.
        """
        check_ids(ids)
        self.store, self.ids, self.plan = store, ids, begin(store, plan)

    def pending(self, process: int = 0, processes: int = 1) -> list[int]:
        """The shards that this process has still to write."""
        done = finished_shards(self.store)
        return [shard for shard in range(process, self.plan.shards, processes) if shard not in done]

    def write(
        self,
        shard: int,
        rows: np.ndarray,
        views: np.ndarray | None = None,
        seconds: float | None = None,
    ) -> None:
        """Writes a shard and its marker.

        Args:
            shard: its number.
            rows: all its rows, finite, in the plan's dtype.
            views: with stored views: [rows, 5] int32, the fields of each one's rectangle.
            seconds: that a teacher took for it; None where the rows were there already.

        Raises:
            StoreError: it cannot be written.
        """
        contents = {shards.FEATURES: (rows, self.plan.dtype)}
        if views is not None:
            contents[shards.VIEWS] = (views, "int32")
        hashes = {}
        for array, (values, dtype) in contents.items():
            name = shards.chunk_name(array, shard)
            content = shards.encode(values, self.plan.shard_rows, dtype)
            hashes[name] = hashlib.sha256(content).hexdigest()
            self.store.write(name, content)
        marker: dict[str, Any] = {"rows": len(rows), "files_sha256": hashes}
        if seconds is not None:
            marker["seconds"] = seconds
        self.store.write(marker_name(shard), _json(marker))

    def finish(self) -> Manifest:
        """Waits until every shard is there and makes the store readable.

        Returns:
            The manifest.

        Raises:
            StoreError: shards that other processes write did not come.
        """
        wait_for_shards(self.store, self.plan)
        hashes, seconds = {}, []
        for shard in range(self.plan.shards):
            marker = _read_marker(self.store, shard)
            hashes |= marker["files_sha256"]
            seconds.append(marker.get("seconds"))
        arrays = {shards.FEATURES: (self.plan.shape, self.plan.dtype)}
        if self.plan.views:
            arrays[shards.VIEWS] = ((self.plan.shape[0], len(shards.VIEW_FIELDS)), "int32")
        files = {
            f"{array}/zarr.json": _json(shards.metadata(shape, self.plan.shard_rows, dtype))
            for array, (shape, dtype) in arrays.items()
        }
        files[IDS] = ("\n".join(self.ids.tolist()) + "\n").encode()
        for name, content in files.items():
            hashes[name] = hashlib.sha256(content).hexdigest()
            self.store.write(name, content)
        manifest = Manifest(
            **{field.name: getattr(self.plan, field.name) for field in dataclasses.fields(Plan)},
            files_sha256=dict(sorted(hashes.items())),
            # Milliseconds: a part of the time would stand for the whole, were one shard's unknown.
            extraction_seconds=None if None in seconds else round(sum(seconds), 3),
        )
        self.store.write(MANIFEST, render_manifest(manifest))
        return read_manifest(self.store.path)


def begin(store: Directory, plan: Plan) -> Plan:
    """Writes the plan, unless one is there that shards were written for.

    Args:
        store: the store's directory.
        plan: what it is to be.

    Returns:
        The plan that is there. It may cut the rows into other shards, when it was begun by another
        number of hosts.

    Raises:
        StoreError: shards of another plan are here, or of none.
    """
    found = read_plan(store)
    # Asked twice: another host may have written plan and shards in between.
    if found is None and finished_shards(store) and (found := read_plan(store)) is None:
        raise StoreError(
            f"shards belong to the plan that they were written for; {store.path} has shards and no "
            f"{PLAN}: whose are they? Delete that directory and run extract again."
        )
    if found is None or not (_same(found, plan) or finished_shards(store)):
        store.write(PLAN, render_plan(plan))
        return plan
    expected = dataclasses.asdict(plan)
    del expected["shard_rows"]
    require(store.path, found, expected)
    return found


def _same(found: Plan, plan: Plan) -> bool:
    return dataclasses.replace(found, shard_rows=plan.shard_rows) == plan


def marker_name(shard: int) -> str:
    """The file that says a shard is done."""
    return f"done/{shard:05}.json"


def finished_shards(store: Directory) -> set[int]:
    """The shards whose markers are there."""
    markers = [name for name in store.names() if name.startswith("done/")]
    return {int(name.removeprefix("done/").removesuffix(".json")) for name in markers}


def wait_for_shards(store: Directory, plan: Plan) -> None:
    """Returns when every shard is done.

    Args:
        store: the store's directory.
        plan: says how many there are.

    Raises:
        StoreError: none came for `WAIT_SECONDS`; the message names the missing ones.
    """
    before, deadline = None, 0.0
    while missing := sorted(set(range(plan.shards)) - finished_shards(store)):
        if missing != before:
            _LOG.info(
                "%s waits for shards %s of other processes (shard s belongs to process "
                "s %% config.features.processes)",
                store.path,
                ", ".join(map(str, missing[:10])),
            )
            before, deadline = missing, time.monotonic() + WAIT_SECONDS
        elif time.monotonic() > deadline:
            raise StoreError(
                f"process 0 makes a store readable when all {plan.shards} shards are done; "
                f"{store.path} lacks {len(missing)}, and none came in {WAIT_SECONDS:g} s: "
                f"{', '.join(map(str, missing[:10]))}. Shard s belongs to "
                "config.features.process = s % config.features.processes; start that one again, "
                "or finish alone with --config.features.processes=1."
            )
        time.sleep(POLL_SECONDS)


def _read_marker(store: Directory, shard: int) -> dict[str, Any]:
    content = store.read(marker_name(shard))
    try:
        marker = json.loads(content or b"")
        timed = type(marker.get("seconds", 0.0)) is float
        if timed and shards.chunk_name(shards.FEATURES, shard) in marker["files_sha256"]:
            return marker
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise StoreError(
        f"a marker holds the hashes of its shard; {store.path}/{marker_name(shard)} does not. "
        "Delete that file and run the same `aft-jax extract`: it computes the shard again."
    )


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
