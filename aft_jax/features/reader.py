"""Reading a feature store: checked against what the run needs, rows found by example id."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts

from aft_jax.data import ids_digest
from aft_jax.errors import StoreError
from aft_jax.features.manifest import Manifest, read_manifest, require
from aft_jax.features.writer import file_hashes


class FeatureStore(NamedTuple):
    """An opened store.

    Attributes:
        manifest: what it says about itself.
        ids: [n] example ids in row order.
        features: [n, t] float32.
    """

    manifest: Manifest
    ids: np.ndarray
    features: np.ndarray


def open_store(store: pathlib.Path, expected: Mapping[str, Any]) -> FeatureStore:
    """Opens a store after checking its manifest, the hashes of its files and what they hold.

    Args:
        store: the store's directory.
        expected: manifest field -> the value that the run is about to use.

    Returns:
        The store, its features in host memory.

    Raises:
        StoreError: the store is missing, incomplete, damaged, or not the expected one.
    """
    manifest = read_manifest(store)
    require(store, manifest, expected)
    _check_hashes(store, manifest)
    ids, features = _read_files(store)
    _check_content(store, manifest, ids, features)
    return FeatureStore(manifest, ids, features)


def _check_hashes(store: pathlib.Path, manifest: Manifest) -> None:
    hashes = file_hashes(store)
    for name in sorted(set(manifest.files_sha256) | set(hashes)):
        recorded, found = manifest.files_sha256.get(name), hashes.get(name)
        if recorded != found:
            raise StoreError(
                f"files of a store have the hashes in its manifest; {store / name} has {found}, "
                f"the manifest says {recorded}. The store is damaged: delete it and extract again."
            )


def _read_files(store: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    kvstore = {"driver": "file", "path": str(store / "features")}
    try:
        array: Any = ts.open({"driver": "zarr3", "kvstore": kvstore}).result()
        ids = (store / "ids.txt").read_bytes().decode().split("\n")[:-1]
        return np.array(ids, str), np.asarray(array.read().result())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"a store holds ids.txt and a zarr array; those of {store} cannot be read: {error}. "
            "The store is damaged: delete it and extract again."
        ) from error


def _check_content(
    store: pathlib.Path, manifest: Manifest, ids: np.ndarray, features: np.ndarray
) -> None:
    pairs = [
        ("dtype", manifest.dtype, features.dtype.name),
        ("shape", manifest.shape, features.shape),
        ("shape[0]", manifest.shape[0], len(ids)),
        ("dataset_rows", manifest.dataset_rows, len(ids)),
        ("dataset_ids_sha256", manifest.dataset_ids_sha256, ids_digest(ids)),
    ]
    wrong = [
        f"{field}: the manifest says {said!r}, the files have {found!r}"
        for field, said, found in pairs
        if said != found
    ]
    if wrong:
        raise StoreError(
            f"a manifest describes the files beside it; that of {store} does not. "
            f"{'; '.join(wrong)}. The store is damaged: delete it and extract again."
        )


def join(store: FeatureStore, ids: np.ndarray) -> np.ndarray:
    """The features of the given examples, found by id.

    Args:
        store: the store.
        ids: [m] example ids.

    Returns:
        [m, t] features, row i those of `ids[i]`.

    Raises:
        StoreError: an example has no features.
    """
    order = np.argsort(store.ids)
    place = np.searchsorted(store.ids, ids, sorter=order)
    rows = order[np.minimum(place, len(order) - 1)]
    missing = ids[store.ids[rows] != ids]
    if len(missing):
        raise StoreError(
            f"every example of the split has a row in the store; {len(missing)} of {len(ids)} "
            f"have none, the first is {str(missing[0])!r}. "
            "Extract the features of this split again."
        )
    return store.features[rows]
