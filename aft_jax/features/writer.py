"""Writing a feature store: all of it, or nothing that a reader would take for one.

<store>/manifest.json    written last
<store>/ids.txt          example ids, one a line, in row order
<store>/features/        zarr 3 array [n, t] in sharded chunks with checksums

All of it is written to <store>.partial and renamed at the end: an extraction that was interrupted
starts over.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorstore as ts

from aft_jax.data import ids_digest
from aft_jax.errors import StoreError
from aft_jax.features.manifest import FORMAT_VERSION, MANIFEST, Manifest
from aft_jax.files import sha256_of

CHUNK_ROWS = 256
SHARD_ROWS = 16_384


def write_store(
    store: pathlib.Path,
    ids: np.ndarray,
    batches: Iterable[np.ndarray],
    width: int,
    **described: Any,
) -> Manifest:
    """Writes a store beside its place and moves it there when it is complete.

    Args:
        store: the store's directory; must not exist.
        ids: [n] example ids, unique and without line breaks.
        batches: consecutive [m, t] features of any float dtype, n rows in all; stored as float32.
        width: t.
        **described: manifest fields about the teacher and the data set; those that follow from
            `ids` may be left out, or agree with them.

    Returns:
        The manifest.

    Raises:
        StoreError: the store exists, the ids are none, repeated, broken over lines or not those
            described, the batches do not add up to n rows, or a feature is not finite in float32.
    """
    check_ids(ids)
    described |= _fields_of_ids(ids, described)
    if store.exists():
        raise StoreError(f"a store is written once; {store} exists. Delete it to extract again.")
    partial = store.with_name(store.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "ids.txt").write_bytes(("\n".join(ids.tolist()) + "\n").encode())
    _write_features(partial / "features", ids, batches, width)
    manifest = _write_manifest(partial, (len(ids), width), described)
    partial.rename(store)
    return manifest


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


def _fields_of_ids(ids: np.ndarray, described: Mapping[str, Any]) -> dict[str, Any]:
    fields = {"dataset_rows": len(ids), "dataset_ids_sha256": ids_digest(ids)}
    for name, value in fields.items():
        if described.get(name, value) != value:
            raise StoreError(
                f"a store is described as what it holds; {name} was given as "
                f"{described[name]!r}, the ids have {value!r}. Describe the data set of these ids."
            )
    return fields


def _write_manifest(
    partial: pathlib.Path, shape: tuple[int, int], described: Mapping[str, Any]
) -> Manifest:
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        dtype="float32",
        shape=shape,
        files_sha256=file_hashes(partial),
        **described,
    )
    (partial / MANIFEST).write_text(json.dumps(dataclasses.asdict(manifest), indent=2) + "\n")
    return manifest


def _write_features(
    path: pathlib.Path, ids: np.ndarray, batches: Iterable[np.ndarray], width: int
) -> None:
    array: Any = ts.open(_spec(path, len(ids), width), create=True).result()
    start = 0
    for shard in _shards(_checked(ids, batches, width)):
        array[start : start + len(shard)].write(shard).result()
        start += len(shard)
    if start != len(ids):
        raise StoreError(f"features have one row an example; got {start} rows for {len(ids)} ids.")


def _shards(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same rows, a shard's at a time: every write to a shard writes all of it again."""
    held, rows = [], 0
    for batch in batches:
        rest = batch
        while len(rest):
            part = rest[: SHARD_ROWS - rows]
            held.append(part)
            rows += len(part)
            rest = rest[len(part) :]
            if rows == SHARD_ROWS:
                yield np.concatenate(held)
                held, rows = [], 0
    if held:
        yield np.concatenate(held)


def _checked(ids: np.ndarray, batches: Iterable[np.ndarray], width: int) -> Iterator[np.ndarray]:
    """The batches in float32; refuses what has another shape or is not finite there."""
    start = 0
    for batch in batches:
        stop = start + len(batch)
        if stop > len(ids) or batch.shape[1:] != (width,):
            raise StoreError(
                f"features have one row an example, shape {(len(ids), width)}; rows {start} to "
                f"{stop} came with shape {batch.shape}."
            )
        with np.errstate(over="ignore"):
            features = batch.astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if len(bad):
            raise StoreError(
                f"features are finite in float32; the teacher gave NaN or infinity for example "
                f"{str(ids[start + bad[0]])!r} and {len(bad) - 1} others in its batch. "
                "Try the teacher in float32, or look at that example."
            )
        yield features
        start = stop


def _spec(path: pathlib.Path, rows: int, width: int) -> dict[str, Any]:
    chunk_rows = min(CHUNK_ROWS, rows)
    shard_rows = min(SHARD_ROWS, -(-rows // chunk_rows) * chunk_rows)
    inside = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    sharding = {"chunk_shape": [chunk_rows, width], "codecs": inside}
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(path)},
        "metadata": {
            "shape": [rows, width],
            "data_type": "float32",
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [shard_rows, width]},
            },
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        },
    }


def file_hashes(store: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file of a store but its manifest, by relative path."""
    files = sorted(path for path in store.rglob("*") if path.is_file() and path != store / MANIFEST)
    return {path.relative_to(store).as_posix(): sha256_of(path) for path in files}
