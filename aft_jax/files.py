"""Files that are whole or absent."""

import hashlib
import pathlib


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old content or the new one, never a part.

    Args:
        path: the file; its directory exists.
        content: text (written as UTF-8) or bytes.
    """
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.replace(path)


def sha256_of(path: pathlib.Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
