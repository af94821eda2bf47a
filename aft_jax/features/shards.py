"""The container: a zarr 3 array of which every chunk is one file, a shard of consecutive rows.

    features/zarr.json    data type, shape, and codecs "bytes" (little endian) and "crc32c"
    features/c/3/0        rows 3 s ... 4 s - 1, one after another, then 4 bytes of crc32c

Any zarr 3 reader opens it. The codecs leave rows as they are in memory, so on disk a shard is also
a file to map: one row is one read of its own bytes, where a reader of chunks would fetch and check
a whole one. Shards are filled up with NaN behind the last row, a value no row may hold.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

MAX_SHARD_ROWS = 16_384
MAX_SHARD_BYTES = 64 * 2**20
MIN_SHARDS = 16
"""A kill costs at most this share of a large extraction ..."""
MIN_SHARD_ROWS = 256
"""... in shards of at least this many rows."""
CHECKSUM_BYTES = 4

FEATURES = "features"
VIEWS = "views"
VIEW_FIELDS = ("top", "left", "height", "width", "flip")

FILL_VALUES: Mapping[str, Any] = {"float32": "NaN", "bfloat16": "NaN", "int32": -1}
"""Never the value of a whole shard, which would then be left out."""


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy type of "float32", "bfloat16" or "int32"."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def shard_rows(rows: int, row_bytes: int, views: int, processes: int) -> int:
    """How many rows a shard gets: few files, all of nearly one size, each soon done.

    Args:
        rows: of the whole store.
        row_bytes: of one row.
        views: m; the views of an example stay in one shard.
        processes: hosts that share the work, each of which should get a shard.

    Returns:
        Rows, a multiple of max(1, views).
    """
    unit = max(1, views)
    limit = min(MAX_SHARD_ROWS, MAX_SHARD_BYTES // row_bytes)
    examples, most = rows // unit, max(1, limit // unit)
    soon_done = min(MIN_SHARDS, rows // MIN_SHARD_ROWS)
    shards = max(-(-examples // most), min(max(processes, soon_done), examples))
    return -(-examples // shards) * unit


def chunk_name(array: str, shard: int) -> str:
    """The file of a shard."""
    return f"{array}/c/{shard}/0"


def metadata(shape: tuple[int, int], rows: int, dtype: str) -> dict[str, Any]:
    """What zarr.json says.

    Args:
        shape: of the whole array.
        rows: of a shard.
        dtype: "float32", "bfloat16" or "int32".
    """
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [rows, shape[1]]}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "fill_value": FILL_VALUES[dtype],
    }


def encode(rows: np.ndarray, length: int, dtype: str) -> bytes:
    """The content of a shard's file, made by TensorStore itself.

    Args:
        rows: [at most `length`, t].
        length: rows of a whole shard.
        dtype: to store them in.

    Returns:
        The file, to be hashed before it is written: what goes wrong on the way is then found.
    """
    import tensorstore as ts

    context = ts.Context()  # a memory of its own, gone with this call
    shape = (length, rows.shape[1])
    spec = {
        "driver": "zarr3",
        "kvstore": "memory://",
        "metadata": metadata(shape, length, dtype),
    }
    array: Any = ts.open(spec, create=True, context=context).result()
    array[: len(rows)].write(rows).result()
    return bytes(array.kvstore.read("c/0/0").result().value)


@functools.cache
def shard_bytes(length: int, width: int, dtype: str) -> int:
    """The size of a shard's file."""
    return length * width * numpy_dtype(dtype).itemsize + CHECKSUM_BYTES
