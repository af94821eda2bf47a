"""Reading a feature store: checked against what the run needs, rows found by example id."""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from aft_jax.data import ids_digest
from aft_jax.errors import StoreError
from aft_jax.features import shards
from aft_jax.features.kv import Directory
from aft_jax.features.local_copy import local_copy
from aft_jax.features.manifest import MANIFEST, Manifest, read_manifest, require
from aft_jax.features.rows import ShardRows
from aft_jax.features.writer import IDS
from aft_jax.files import has_failed, sha256_of

HASH_THREADS = 2


@dataclasses.dataclass(frozen=True)
class FeatureStore:
    """An opened store; its features are read when asked for.

    Attributes:
        path: as it was opened, for messages.
        manifest: what it says about itself.
        ids: [n] example ids in row order.
        directory: the files on this machine: the store itself, or its local copy.
    """

    path: str
    manifest: Manifest
    ids: np.ndarray
    directory: pathlib.Path

    @property
    def parts(self) -> Mapping[str, tuple[int, int]]:
        """Part of the teacher's output -> its [start, stop) columns."""
        return self.manifest.parts

    def rows(self) -> ShardRows:
        """The features, [n * max(1, views), t] in the stored dtype, in their files."""
        return self._rows(shards.FEATURES, self.manifest.shape[1], self.manifest.dtype)

    def views(self) -> np.ndarray:
        """The parameters of the stored views.

        Returns:
            [n * views, 5] int32: top, left, height, width, flip.
        """
        return self._rows(shards.VIEWS, len(shards.VIEW_FIELDS), "int32").read_all()

    def places(self, ids: np.ndarray) -> np.ndarray:
        """Where the given examples are.

        Args:
            ids: [m] example ids.

        Returns:
            [m] positions among `self.ids`; -1 for an example without features.
        """
        if np.array_equal(self.ids, ids):
            return np.arange(len(ids))
        order = np.argsort(self.ids)
        found = np.searchsorted(self.ids, ids, sorter=order)
        places = order[np.minimum(found, len(order) - 1)]
        return np.where(self.ids[places] == ids, places, -1)

    def _rows(self, array: str, width: int, dtype: str) -> ShardRows:
        files = [
            self.directory / shards.chunk_name(array, shard)
            for shard in range(self.manifest.shards)
        ]
        rows = self.manifest.shape[0]
        return ShardRows(files, (rows, width), self.manifest.shard_rows, shards.numpy_dtype(dtype))


def open_store(path: str, expected: Mapping[str, Any] | None = None) -> FeatureStore:
    """Opens a store after checking its manifest, the hashes of its files and what they hold.

    A store in a bucket is copied to this machine first, once.

    Args:
        path: the store's directory, local or a URL.
        expected: field of the plan -> the value that the run is about to use; None to take
            whatever is there.

    Returns:
        The store.

    Raises:
        StoreError: the store is missing, incomplete, damaged, or not the expected one.
    """
    path = str(path)
    manifest = read_manifest(path)
    require(path, manifest, expected or {})
    local = Directory(path).local
    directory = local_copy(path, manifest) if local is None else local
    check_files(path, directory, manifest)
    ids = np.array((directory / IDS).read_bytes().decode().split("\n")[:-1], str)
    _check_ids(path, manifest, ids)
    return FeatureStore(path, manifest, ids, directory)


def check_files(path: str, directory: pathlib.Path, manifest: Manifest) -> None:
    """Reads every file of a store and compares its hash.

    Args:
        path: the store, for messages.
        directory: its files.
        manifest: the hashes.

    Raises:
        StoreError: a file is missing or holds something else.
    """
    with concurrent.futures.ThreadPoolExecutor(HASH_THREADS) as pool:
        found = pool.map(lambda name: _hash(directory / name), manifest.files_sha256)
    for (name, recorded), digest in zip(manifest.files_sha256.items(), found, strict=True):
        if digest == recorded:
            continue
        said = "is missing" if digest is None else f"has {digest}"
        raise StoreError(
            f"files of a store have the hashes in its {MANIFEST}; {path}/{name} {said}, the "
            f"manifest says {recorded}. {_fix(path, directory, name)}"
        )


def _hash(file: pathlib.Path) -> str | None:
    try:
        return sha256_of(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        if has_failed(error):
            raise
        raise StoreError(f"files of a store can be read; {file} cannot: {error}.") from error


def _fix(path: str, directory: pathlib.Path, name: str) -> str:
    if str(directory) not in (path, str(Directory(path).local)):
        return f"Delete the local copy {directory}: it is made anew."
    shard = name.split("/")[2:3] if "/c/" in name else []
    marker = f" and {path}/done/{int(shard[0]):05}.json" if shard else ""
    return (
        f"Delete {path}/{MANIFEST}{marker}, and the same `aft-jax extract` makes "
        f"{'this shard' if shard else 'that file'} anew and keeps the rest."
    )


def _check_ids(path: str, manifest: Manifest, ids: np.ndarray) -> None:
    """The one contradiction that right hashes leave possible: ids that another program wrote."""
    if (manifest.dataset_rows, manifest.dataset_ids_sha256) != (len(ids), ids_digest(ids)):
        raise StoreError(
            f"a manifest describes the files beside it; that of {path} says dataset_rows "
            f"{manifest.dataset_rows} and dataset_ids_sha256 {manifest.dataset_ids_sha256!r}, "
            f"{IDS} has {len(ids)} and {ids_digest(ids)!r}. Delete the store and extract again."
        )


def join(store: FeatureStore, ids: np.ndarray) -> np.ndarray:
    """The features of the given examples, found by id; of a store with views, all of them.

    Args:
        store: the store.
        ids: [m] example ids.

    Returns:
        [m, t] features, or [m, views, t].

    Raises:
        StoreError: an example has no features.
    """
    places = store.places(ids)
    require_places(store.path, ids, places)
    views = store.manifest.views
    rows = (places[:, None] * max(1, views) + np.arange(max(1, views))).reshape(-1)
    found = store.rows().gather(rows)
    return found.reshape(len(ids), views, -1) if views else found


def require_places(path: str, ids: np.ndarray, places: np.ndarray) -> None:
    """Refuses examples without features.

    Args:
        path: the store, for the message.
        ids: [m] example ids.
        places: [m] positions in the store, -1 for none.

    Raises:
        StoreError: there are such examples; the message counts them and names the first.
    """
    missing = ids[places < 0]
    if len(missing):
        first = ", ".join(repr(str(name)) for name in missing[:5])
        raise StoreError(
            f"every example of the split has a row in the store; {len(missing)} of {len(ids)} "
            f"have none in {path}: {first}{', ...' if len(missing) > 5 else ''}. Extract the "
            'features of this split again, or set config.features.missing="skip".'
        )
