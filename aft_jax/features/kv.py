"""A directory on disk or in a bucket, read and written as whole files through TensorStore.

An object store has no rename and no append, so neither is used anywhere: a file appears whole or
not at all, which TensorStore's drivers promise for both, and what is written last decides.
"""

import dataclasses
import functools
import pathlib
from typing import Any

from aft_jax.errors import StorageError, StoreError
from aft_jax.files import full_disk, has_failed, is_full

READ_SECONDS = 600.0
"""The longest a single file may take to arrive; one is at most 64 MiB."""

# A bucket that cannot be reached is a mistake far more often than a passing fault: TensorStore's
# own 32 tries with pauses up to half a minute would hide it.
CONTEXT = {
    "gcs_request_retries": {"max_retries": 3, "initial_delay": "0.3s", "max_delay": "1s"},
    "http_request_retries": {"max_retries": 3, "initial_delay": "0.3s", "max_delay": "1s"},
}


@dataclasses.dataclass(frozen=True)
class Directory:
    """Files under one path, by their names relative to it ("features/c/0/0").

    Attributes:
        path: local path, or URL of any kind that TensorStore knows ("gs://bucket/path").
    """

    path: str

    @property
    def local(self) -> pathlib.Path | None:
        """The path on this machine, or None where it is elsewhere."""
        if "://" not in self.path:
            return pathlib.Path(self.path).expanduser().absolute()
        scheme, _, rest = self.path.partition("://")
        return pathlib.Path(rest) if scheme == "file" else None

    def child(self, name: str) -> "Directory":
        """A directory below this one."""
        return Directory(f"{self.path.rstrip('/')}/{name}")

    def read(self, name: str) -> bytes | None:
        """The content of a file.

        Args:
            name: relative to the directory.

        Returns:
            All of it, or None where there is no such file.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            # An address of the file itself, so that nothing below asks for the directory first.
            found = self._kvstore().read(name).result(timeout=READ_SECONDS)
        except Exception as error:  # TensorStore's drivers raise errors of many classes
            raise self._error("read", name, error) from error
        return bytes(found.value) if found.state == "value" else None

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, or replaces it, as a whole.

        Args:
            name: relative to the directory.
            content: all of it.

        Raises:
            StoreError: it cannot be written.
            StorageError: the disk is full or fails; no part of the file is there.
        """
        try:
            self._kvstore().write(name, content).result(timeout=READ_SECONDS)
        except Exception as error:
            if self.local is not None and is_full(error):
                kept = "Finished files and shards stay."
                raise full_disk(self.local / name, len(content), kept) from error
            raise self._error("written", name, error) from error

    def names(self) -> list[str]:
        """The names of all files below the directory, sorted; none where it does not exist.

        Raises:
            StoreError: it cannot be listed.
        """
        try:
            found = self._kvstore().list().result(timeout=READ_SECONDS)
        except Exception as error:
            raise self._error("listed", "", error) from error
        return sorted(name.decode() for name in found)

    def _kvstore(self) -> Any:
        return _open(self.path if self.local is None else str(self.local))

    def _error(self, verb: str, name: str, error: Exception) -> StoreError | StorageError:
        place = self.path.rstrip("/") + (f"/{name}" if name else "")
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        kind = StorageError if has_failed(error) else StoreError
        return kind(
            f"feature stores lie where this process can read and write; {place} cannot be {verb}: "
            f"{reason.rstrip('.')}. Look at config.features.directory, your permissions and, for a "
            "bucket, your credentials."
        )


@functools.lru_cache(maxsize=256)
def _open(path: str) -> Any:
    import tensorstore as ts

    if "://" not in path:
        return ts.KvStore.open({"driver": "file", "path": path + "/"}, context=context()).result()
    return ts.KvStore.open(path.rstrip("/") + "/", context=context()).result()


@functools.cache
def context() -> Any:
    """The one TensorStore context: stores under memory:// are the same for all who open them."""
    import tensorstore as ts

    return ts.Context(CONTEXT)
