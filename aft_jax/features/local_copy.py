"""A store in a bucket, copied once to this machine, where rows can be read one by one."""

import hashlib
import os
import pathlib

from aft_jax.errors import StoreError
from aft_jax.features.kv import Directory
from aft_jax.features.manifest import Manifest, render_manifest
from aft_jax.progress import progress_bar


def local_copy(path: str, manifest: Manifest) -> pathlib.Path:
    """Copies the files of a store that are not here yet.

    The copy is named by the content of the store, so it is never an old one.

    Args:
        path: URL of the store.
        manifest: of the store.

    Returns:
        The directory of the copy, below $XDG_CACHE_HOME/aft_jax or ~/.cache/aft_jax.

    Raises:
        StoreError: a file cannot be read or written, or does not have its hash.
    """
    digest = hashlib.sha256(render_manifest(manifest)).hexdigest()[:16]
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    directory = pathlib.Path(root).expanduser() / "aft_jax" / digest
    source, copy = Directory(path), Directory(str(directory))
    # Whoever opens the copy checks its hashes, so files that are here are not asked for again.
    absent = [name for name in manifest.files_sha256 if not (directory / name).is_file()]
    if absent:
        with progress_bar(len(absent), f"copy {path} to {directory}", "file") as progress:
            for name in absent:
                copy.write(name, _fetch(source, name, manifest.files_sha256[name]))
                progress.update()
    return directory


def _fetch(source: Directory, name: str, recorded: str) -> bytes:
    content = source.read(name)
    found = None if content is None else hashlib.sha256(content).hexdigest()
    if content is None or found != recorded:
        said = "is missing" if content is None else f"has {found}"
        raise StoreError(
            f"files of a store have the hashes in its manifest; {source.path}/{name} {said}, the "
            f"manifest says {recorded}. Delete manifest.json and the shard's marker under done/, "
            "and the same `aft-jax extract` makes it anew."
        )
    return content
