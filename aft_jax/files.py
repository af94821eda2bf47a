"""Files that are whole or absent."""

import contextlib
import hashlib
import pathlib
from collections.abc import Iterator

from aft_jax.errors import UsageError


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old content or the new one, never a part.

    Args:
        path: the file; its directory exists.
        content: text (written as UTF-8) or bytes.
    """
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.replace(path)


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
        raise UsageError(
            f"--workdir is a directory that this process can write; {path}: {error}. Name another "
            "place."
        ) from error


def sha256_of(path: pathlib.Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
