"""The `list` verb: the stores below a directory."""

from collections.abc import Sequence
from typing import NamedTuple

from aft_jax.errors import StoreError
from aft_jax.features.kv import Directory
from aft_jax.features.manifest import MANIFEST, PLAN, Manifest, Plan, read_manifest, read_plan
from aft_jax.features.shards import numpy_dtype
from aft_jax.text_table import text_table


class StoreRecord(NamedTuple):
    """One store.

    Attributes:
        path: its directory.
        teacher: id of the teacher; "" where the store does not say.
        dataset: name of the data set.
        split: which split.
        rows: n, times views.
        width: t.
        dtype: of the features.
        mebibytes: size of all features.
        state: "complete", "half-written, 2 of 5 shards", or what is wrong.
    """

    path: str
    teacher: str
    dataset: str
    split: str
    rows: int
    width: int
    dtype: str
    mebibytes: float
    state: str


def list_stores(directory: str) -> list[StoreRecord]:
    """Finds the stores below a directory; reads what they say of themselves, no features.

    Args:
        directory: local path or URL.

    Returns:
        A record for each, by path.

    Raises:
        StoreError: the directory cannot be read.
    """
    root = Directory(str(directory))
    names = root.names()
    found = {
        name.rpartition("/")[0] for name in names if name.rpartition("/")[2] in (PLAN, MANIFEST)
    }
    return [_record(root.child(name) if name else root, name, names) for name in sorted(found)]


def _record(store: Directory, name: str, names: Sequence[str]) -> StoreRecord:
    prefix = f"{name}/" if name else ""
    try:
        complete = prefix + MANIFEST in names
        plan: Plan | None = read_manifest(store.path) if complete else read_plan(store)
    except StoreError as error:
        return StoreRecord(store.path, "", "", "", 0, 0, "", 0.0, f"unreadable: {error}")
    if plan is None:  # deleted since it was listed
        return StoreRecord(store.path, "", "", "", 0, 0, "", 0.0, "gone")
    done = sum(other.startswith(f"{prefix}done/") for other in names)
    size = plan.shape[0] * plan.shape[1] * numpy_dtype(plan.dtype).itemsize
    return StoreRecord(
        path=store.path,
        teacher=plan.teacher_id,
        dataset=plan.dataset_name,
        split=plan.dataset_split + (f" x {plan.views} views" if plan.views else ""),
        rows=plan.shape[0],
        width=plan.shape[1],
        dtype=plan.dtype,
        mebibytes=size / 2**20,
        state=_state(plan, {name.removeprefix(prefix) for name in names}, done),
    )


def _state(plan: Plan, files: set[str], done: int) -> str:
    if not isinstance(plan, Manifest):
        return f"half-written, {done} of {plan.shards} shards"
    missing = len(set(plan.files_sha256) - files)
    return f"damaged, {missing} files missing" if missing else "complete"


def format_stores(records: Sequence[StoreRecord]) -> str:
    """A table of stores.

    Args:
        records: from `list_stores`.

    Returns:
        Lines of aligned columns, with a header.
    """
    if not records:
        return "no stores there yet"
    header: tuple[str, ...] = (
        "store",
        "teacher",
        "data set",
        "split",
        "rows",
        "width",
        "dtype",
        "MiB",
        "state",
    )
    cells: list[tuple[str, ...]] = [header]
    for record in records:
        numbers = (f"{record.rows:,}", str(record.width), record.dtype, f"{record.mebibytes:,.1f}")
        cells.append((*record[:4], *numbers, record.state))
    return text_table(cells, right={header.index(name) for name in ("rows", "width", "MiB")})
