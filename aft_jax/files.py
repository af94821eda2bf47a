"""Files that are whole or absent, and what is said when the disk is full."""

import contextlib
import errno
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

from aft_jax.distributed import is_first, meet
from aft_jax.errors import StorageError, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FAILED = (
    *(*_FULL, errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.EREMOTEIO),
    *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ESHUTDOWN, errno.EHOSTDOWN),
)
"""A full disk; a broken one; a network file system, or a mounted bucket, that is gone."""


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old content or the new one, never a part.

    Of several processes the first writes. All come here, on storage that they share: none looks for
    the file after another has written it and before it comes here itself, and none goes on before
    the file is there.

    Args:
        path: the file; its directory exists.
        content: text (written as UTF-8) or bytes.

    Raises:
        StorageError: the disk is full; the old content stays.
    """
    meet(f"before {path.name}")
    if is_first():
        _write(path, content)
    meet(f"after {path.name}")


def _write(path: pathlib.Path, content: str | bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    raw = content.encode() if isinstance(content, str) else content
    try:
        partial.write_bytes(raw)
    except OSError as error:
        if not is_full(error):
            raise
        partial.unlink(missing_ok=True)
        raise full_disk(path, len(raw)) from error
    partial.replace(path)


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that a disk or quota is full.

    Args:
        error: of Python, or of a library that keeps the system's words in its message.

    Returns:
        True if it does.
    """
    return _says(error, _FULL)


def has_failed(error: BaseException) -> bool:
    """Whether an error is storage's own, such as a file system that is gone.

    Args:
        error: of Python, or of a library that keeps the system's words in its message.

    Returns:
        False where the path is to blame, or who asks for it.
    """
    return _says(error, _FAILED)


def _says(error: BaseException | None, numbers: Sequence[int]) -> bool:
    words = [os.strerror(number) for number in numbers]
    while error is not None:
        if isinstance(error, OSError) and error.errno in numbers:
            return True
        if any(word in str(error) for word in words):
            return True
        error = error.__cause__
    return False


def require_room(path: pathlib.Path, needed: int, kept: str = "") -> None:
    """Refuses to begin what the disk has no room for.

    Args:
        path: of the file or directory to be written.
        needed: its bytes.
        kept: sentences on what is safe.

    Raises:
        StorageError: there are fewer.
    """
    usage = shutil.disk_usage(_existing(path))
    if usage.total and usage.free < needed:  # a mounted bucket may report nothing at all
        raise full_disk(path, needed, kept)


def full_disk(path: pathlib.Path, needed: int, kept: str = "") -> StorageError:
    """The error for a file that a full disk has no room for.

    Args:
        path: of the file, or of a directory that holds it.
        needed: its bytes; 0 if unknown.
        kept: sentences on what is safe, if that is not obvious.

    Returns:
        The error.
    """
    free = shutil.disk_usage(_existing(path)).free
    wanted = f"{needed:,} bytes are needed, " if needed else ""
    return StorageError(
        f"what is written needs room on its disk; {path} could not be written: the disk (or your "
        f"quota) is full, {wanted}{free:,} are free. {kept + ' ' if kept else ''}"
        "Free space, then the same command resumes."
    )


def _existing(path: pathlib.Path) -> pathlib.Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())


@contextlib.contextmanager
def made_workdir(path: pathlib.Path) -> Iterator[None]:
    """Makes a directory that --workdir names, or one inside it, for the block to write into.

    Args:
        path: the directory; may exist.

    Raises:
        UsageError: this process cannot make it, or not write there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if has_failed(error):
            raise
        raise UsageError(
            f"--workdir is a directory that this process can write; {path}: {error}. Name another "
            "place."
        ) from error


def sha256_of(path: pathlib.Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
