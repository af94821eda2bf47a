"""Tensors of safetensors files, each read when asked for: a checkpoint larger than memory is fine.

A file is 8 bytes, n as a little-endian integer; n bytes of JSON, the header; then the tensors.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from aft_jax.errors import UsageError
from aft_jax.tensors import DTYPES

_LENGTH_BYTES = 8
_MAX_HEADER = 100_000_000
"""What the safetensors library accepts; more is a sign of another format."""

_PICKLE = "a pickle, which can run code when read. Use a checkpoint that was saved as safetensors."
_OTHERS = {
    b"PK": _PICKLE,
    b"\x80": _PICKLE,
    b"version ": "a pointer of Git LFS to the file. Fetch the file itself with `git lfs pull`.",
}
"""How other files begin that are taken for weights."""

_UNKNOWN = "none: it has no header in JSON. Download it again."


class LazyTensor(NamedTuple):
    """A tensor in a file.

    Attributes:
        path: the file.
        dtype: NumPy's, or one of ml_dtypes.
        shape: its sizes.
        begin: first byte of it in the file.
        end: byte after the last.
    """

    path: pathlib.Path
    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int

    def read(self) -> np.ndarray:
        """The array; only its own bytes are read.

        Returns:
            Of `shape` and `dtype`, writable, in memory of its own.

        Raises:
            UsageError: the file has been cut since its header was read.
        """
        content = np.empty(self.end - self.begin, np.uint8)
        with self.path.open("rb") as file:
            file.seek(self.begin)
            count = file.readinto(content.data)
        if count != content.size:
            raise UsageError(
                f"a checkpoint stays as it is while it is read; {self.path} lost its end meanwhile."
                " Wait until it is whole, then run again."
            )
        return content.view(self.dtype).reshape(self.shape)


def open_tensors(paths: Iterable[pathlib.Path]) -> dict[str, LazyTensor]:
    """The tensors of a checkpoint, whichever of its files they are in.

    Args:
        paths: safetensors files; an index (*.json) among them is passed over.

    Returns:
        Name -> the tensor, not read yet.

    Raises:
        UsageError: a file is incomplete or no safetensors, or two files have the same tensor.
    """
    tensors: dict[str, LazyTensor] = {}
    for path in paths:
        if path.suffix == ".json":
            continue
        for name, tensor in read_header(path).items():
            if name in tensors:
                raise UsageError(
                    f"a tensor is in one file of a checkpoint; {name!r} is in {tensors[name].path} "
                    f"and in {path}. Remove the one that does not belong to it."
                )
            tensors[name] = tensor
    return tensors


def read_header(path: pathlib.Path) -> dict[str, LazyTensor]:
    """What a safetensors file holds; checks that all of it is there.

    Args:
        path: the file.

    Returns:
        Name -> the tensor, not read yet.

    Raises:
        UsageError: the file is incomplete, no safetensors, or has a dtype that NumPy lacks.
    """
    header, begin, size = _split(path)
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise _not_safetensors(path) from error
    entries.pop("__metadata__", None)
    tensors = {name: _tensor(path, name, entry, begin) for name, entry in entries.items()}
    expected = max((tensor.end for tensor in tensors.values()), default=begin)
    if size != expected:
        raise _incomplete(path, size, str(expected))
    return tensors


def _split(path: pathlib.Path) -> tuple[bytes, int, int]:
    """A file's header, where its tensors begin, and its size."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        begin = _LENGTH_BYTES + length
        # Not by the first bytes alone: those of a zip or a pickle can be a header's length, too.
        brace = file.read(1)
        if brace and (brace != b"{" or length > _MAX_HEADER):
            raise _not_safetensors(path)
        if not brace or size < begin:
            raise _incomplete(path, size, f"at least {max(begin, _LENGTH_BYTES + 1)}")
        return brace + file.read(max(length - 1, 0)), begin, size


def _tensor(path: pathlib.Path, name: str, entry: Any, start: int) -> LazyTensor:
    match entry:
        case {
            "dtype": str(code),
            "shape": [*shape],
            "data_offsets": [int(begin), int(end)],
        } if begin >= 0 and all(isinstance(side, int) and side >= 0 for side in shape):
            if code not in DTYPES:
                raise UsageError(
                    f"the numbers of a tensor are one of {', '.join(DTYPES)}; {name!r} in {path} "
                    f"is {code}. Use a checkpoint that is not quantized, or save it as F32."
                )
            dtype = np.dtype(DTYPES[code])
            if end - begin == math.prod(shape) * dtype.itemsize:
                return LazyTensor(path, dtype, tuple(shape), start + begin, start + end)
    raise UsageError(
        "a safetensors file gives a dtype, a shape and as many bytes as they take for each tensor; "
        f"{path} gives {entry!r} for {name!r}. Download it again."
    )


def _not_safetensors(path: pathlib.Path) -> UsageError:
    with path.open("rb") as file:
        start = file.read(_LENGTH_BYTES)
    found = next((what for mark, what in _OTHERS.items() if start.startswith(mark)), _UNKNOWN)
    return UsageError(f"weights are read from safetensors files only; {path} is {found}")


def _incomplete(path: pathlib.Path, size: int, expected: str) -> UsageError:
    return UsageError(
        f"a safetensors file is as long as its header says; {path} has {size} bytes of {expected}. "
        "Download it again."
    )
