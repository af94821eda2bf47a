"""Thousands of small reads of files in one system call, where Linux offers that.

Rows of shuffled batches lie all over a store. A memory map reads them fastest but cannot be held to
a limit: the kernel maps up to 2 MiB around every row it touches, which is resident memory, and
unmapping costs more than reading. One `os.preadv` a row holds the interpreter busy and the other
threads waiting. Linux's `io_submit` takes a list of reads; of files in the cache it has done them
when it returns. Elsewhere rows are read one by one.
"""

import ctypes
import errno
import os
import platform
import queue
import sys
from typing import NamedTuple

import numpy as np

MOST_READS = 1024
"""In one call; longer lists are split."""


class _Calls(NamedTuple):
    """Numbers of the system calls."""

    setup: int
    destroy: int
    getevents: int
    submit: int


_CALLS = {"x86_64": _Calls(206, 207, 208, 209), "aarch64": _Calls(0, 1, 4, 2)}

# struct iocb and struct io_event of linux/aio_abi.h; operation 0 is a read.
_REQUEST = np.dtype(
    [
        *(("data", "u8"), ("key", "u4"), ("flags", "u4"), ("operation", "u2")),
        *(("priority", "i2"), ("file", "u4"), ("address", "u8"), ("size", "u8")),
        *(("offset", "i8"), ("reserved", "u8"), ("more_flags", "u4"), ("event_file", "u4")),
    ]
)
_EVENT = np.dtype([("data", "u8"), ("request", "u8"), ("result", "i8"), ("result2", "i8")])


def read_rows(files: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> None:
    """Reads a row from each of many places.

    Args:
        files: [b] open file descriptors.
        offsets: [b] where each row begins, in bytes.
        out: [b, t], contiguous; row i receives what is at `offsets[i]` of `files[i]`.

    Raises:
        OSError: a row cannot be read, or its file ends before it.
    """
    for start in range(0, len(out), MOST_READS):
        part = slice(start, start + MOST_READS)
        try:
            reader = _idle.get_nowait() if _available else None
        except queue.Empty:
            reader = _new_reader()
        if reader is None:
            _read_one_by_one(files[part], offsets[part], out[part])
        else:
            reader.read(files[part], offsets[part], out[part])
            _idle.put(reader)


def _read_one_by_one(files: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> None:
    content, size = out.view(np.uint8).data.cast("B"), out[0].nbytes
    for number, (file, offset) in enumerate(zip(files.tolist(), offsets.tolist(), strict=True)):
        row = content[number * size : (number + 1) * size]
        if os.preadv(file, [row], offset) != size:
            raise OSError("a file ends before its last row")


class _Reader:
    """A list of reads that the kernel knows, for one thread at a time."""

    def __init__(self, calls: _Calls):
        self._calls, self._context = calls, ctypes.c_ulong(0)
        self._call(calls.setup, MOST_READS, ctypes.byref(self._context))
        self._requests = np.zeros(MOST_READS, _REQUEST)
        self._events = np.zeros(MOST_READS, _EVENT)
        steps = np.arange(MOST_READS, dtype=np.uint64)
        self._pointers = self._requests.ctypes.data + _REQUEST.itemsize * steps

    def read(self, files: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> None:
        count, size = len(out), out.strides[0]
        requests = self._requests[:count]
        requests["file"], requests["offset"], requests["size"] = files, offsets, size
        requests["address"] = out.ctypes.data + size * np.arange(count)
        try:
            self._run(count)
        except BaseException:
            # The kernel may still be writing into `out`; this call returns when it is not.
            self._call(self._calls.destroy, self._context)
            raise
        if (self._events["result"][:count] != size).any():
            raise OSError("a row cannot be read, or its file ends before it")

    def _run(self, count: int) -> None:
        done = 0
        while done < count:
            first = ctypes.c_void_p(self._pointers[done:].ctypes.data)
            taken = self._call(self._calls.submit, self._context, count - done, first)
            stop = done + taken
            while done < stop:
                left, events = stop - done, ctypes.c_void_p(self._events[done:].ctypes.data)
                arguments = (self._context, left, left, events, None)
                done += self._call(self._calls.getevents, *arguments)

    @staticmethod
    def _call(number: int, *arguments: object) -> int:
        long = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
        while (result := _LIBC.syscall(number, *long)) < 0:
            if ctypes.get_errno() != errno.EINTR:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result


def _new_reader() -> _Reader | None:
    """None where the kernel refuses: another system, a sandbox, or too many in use."""
    try:
        return _Reader(_CALLS[platform.machine()])
    except OSError:
        return None


_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_available = _LIBC is not None and platform.machine() in _CALLS
_idle: "queue.SimpleQueue[_Reader]" = queue.SimpleQueue()
