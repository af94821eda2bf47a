"""The rows of an array in shards, read from their files when asked for."""

import os
import pathlib
import weakref
from collections.abc import Sequence

import numpy as np

from aft_jax.errors import StoreError
from aft_jax.features.scattered import read_rows
from aft_jax.features.shards import shard_bytes
from aft_jax.files import has_failed

ALIGNMENT = 64  # bytes


class ShardRows:
    """Open shards of one array. Threads may share it; the files close with the object."""

    def __init__(
        self,
        files: Sequence[pathlib.Path],
        shape: tuple[int, int],
        shard_rows: int,
        dtype: np.dtype,
    ):
        """Opens the files.

        Args:
            files: one a shard.
            shape: of the array.
            shard_rows: rows of a shard; the last file has as many, of which some are filling.
            dtype: of the rows.

        Raises:
            StoreError: a file cannot be opened or has another size.
        """
        self.shape, self.dtype, self._shard_rows = shape, dtype, shard_rows
        opened: list[int] = []
        weakref.finalize(self, _close, opened)
        size = shard_bytes(shard_rows, shape[1], dtype.name)
        for file in files:
            opened.append(_open(file))
            found = os.fstat(opened[-1]).st_size
            if found != size:
                raise StoreError(
                    f"shards of this store have {size} bytes; {file} has {found}. Extract it again."
                )
        self._descriptors = np.array(opened)

    @property
    def nbytes(self) -> int:
        """The size of the array."""
        return self.shape[0] * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return self.shape[1] * self.dtype.itemsize

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Reads rows.

        Args:
            rows: [b] positions, in any order and as often as wanted.

        Returns:
            [b, t].

        Raises:
            StoreError: a row cannot be read.
        """
        out = _aligned((len(rows), self.shape[1]), self.dtype)
        shards, inside = np.divmod(rows, self._shard_rows)
        try:
            read_rows(self._descriptors[shards], inside * self._row_bytes, out)
        except OSError as error:
            if has_failed(error):
                raise  # another run would meet the same storage
            raise StoreError(
                f"rows of an open store stay where they are; one cannot be read: {error}. Verify "
                "the store."
            ) from error
        return out

    def read_all(self) -> np.ndarray:
        """Reads the whole array.

        Returns:
            [n, t].
        """
        out = np.empty(self.shape, self.dtype)
        for number, descriptor in enumerate(self._descriptors.tolist()):
            start = number * self._shard_rows
            part = out[start : start + self._shard_rows].view(np.uint8).data.cast("B")
            done = 0
            while done < len(part):
                read = os.preadv(descriptor, [part[done:]], done)
                if not read:
                    raise StoreError(
                        "files of an open store stay as they are; one has been cut off after "
                        f"{done} of {len(part)} bytes. Verify the store."
                    )
                done += read
        return out


def _open(file: pathlib.Path) -> int:
    try:
        return os.open(file, os.O_RDONLY)
    except OSError as error:
        raise StoreError(f"shards of a store are files to read; {file}: {error}.") from error


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _aligned(shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """An array that JAX takes over on a CPU, where it copies those of other alignment."""
    size = shape[0] * shape[1] * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
