"""Files of a data set, on disk or in a bucket, with errors that say which and what to do."""

from typing import Any

from aft_jax.errors import ConfigError, DataError


def location(path: str) -> Any:
    """A path object of a local path or a gs://bucket/path.

    Args:
        path: the path.

    Returns:
        An `etils.epath.Path`, which has the methods of `pathlib.Path`.

    Raises:
        ConfigError: the path is empty, or etils is not installed.
    """
    if not path:
        raise ConfigError("config.data.path says where the data set is; got ''.")
    try:
        from etils import epath
    except ImportError as error:
        raise ConfigError(
            "data files are read through etils; install pip install 'aft_jax[data]'."
        ) from error
    return epath.Path(path)


def read(path: Any) -> bytes:
    """The content of a file.

    Args:
        path: from `location`.

    Returns:
        All bytes.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    # The backends of buckets raise errors of their own libraries, with no base class in common.
    try:
        return path.read_bytes()
    except Exception as error:
        raise unreadable(path, error) from error


def entries(path: Any) -> list[Any]:
    """What a directory holds, sorted by name, without hidden entries.

    Args:
        path: from `location`.

    Returns:
        Paths.

    Raises:
        DataError: there is no such directory, or it cannot be read.
    """
    try:
        found = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    except Exception as error:
        raise unreadable(path, error) from error
    return sorted(found, key=lambda entry: entry.name)


def unreadable(path: Any, error: Exception) -> DataError:
    """The error for a file or directory that cannot be read.

    Args:
        path: the file or directory.
        error: what was raised.

    Returns:
        An error that names the path, the reason and the fix.
    """
    fix = "Check config.data.path and the names of the splits."
    if str(path).startswith("gs://"):
        fix = (
            "Check that the bucket exists, that this machine may read it (gcloud auth "
            "application-default login), and that gcsfs is installed; or copy the data to a local "
            "directory."
        )
    reason = f"{type(error).__name__}: {error}"
    return DataError(f"config.data.path leads to files that can be read; {path}: {reason}. {fix}")
