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
from collections.abc import Iterable, Iterator
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
        **described: manifest fields about the teacher and the data set. The row count and the
            digest of the ids follow from `ids`; where given too, they agree.

    Returns:
        The manifest.

    Raises:
        StoreError: the store exists, the ids are none, repeated, broken over lines or not those
            described, the batches do not add up to n rows, or a feature is not finite in float32.
    """
    check_ids(ids)
    from_ids = {"dataset_rows": len(ids), "dataset_ids_sha256": ids_digest(ids)}
    require_fields(store, described, from_ids)
    if store.exists():
        raise StoreError(f"a store is written once; {store} exists. Delete it to extract again.")
    partial = store.with_name(store.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "ids.txt").write_text("\n".join(ids.tolist()) + "\n")
    _write_features(partial / "features", ids, batches, width)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        dtype="float32",
        shape=(len(ids), width),
        files_sha256=file_hashes(partial),
        **described,
    )
    (partial / MANIFEST).write_text(json.dumps(dataclasses.asdict(manifest), indent=2) + "\n")
    partial.rename(store)
    return manifest


def _write_features(
    path: pathlib.Path, ids: np.ndarray, batches: Iterable[np.ndarray], width: int
) -> None:
    array: Any = ts.open(_spec(path, len(ids), width), create=True).result()
    start = 0
    for batch in batches:
        stop = start + len(batch)
        if stop > len(ids) or batch.shape[1] != width:
            raise StoreError(
                f"features have one row an example, shape {(len(ids), width)}; rows {start} to "
                f"{stop} came with shape {batch.shape}."
            )
        bad = np.flatnonzero(~np.isfinite(batch).all(axis=1))
        if len(bad):
            raise StoreError(
                f"features are finite; the teacher gave NaN or infinity for example "
                f"{ids[start + bad[0]]!r} and {len(bad) - 1} others in its batch. "
                "Try the teacher in float32, or look at that example."
            )
        array[start:stop].write(batch.astype(np.float32)).result()
        start = stop
    if start != len(ids):
        raise StoreError(f"features have one row an example; got {start} rows for {len(ids)} ids.")


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
    files = sorted(path for path in store.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(store).as_posix(): sha256_of(path) for path in files}
