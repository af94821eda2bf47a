"""Reading a feature store: checked against what the run needs, rows found by example id."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts

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
    """Opens a store after checking its manifest and the hashes of its files.

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
    hashes = file_hashes(store)
    for name in sorted(set(manifest.files_sha256) | set(hashes)):
        recorded, found = manifest.files_sha256.get(name), hashes.get(name)
        if recorded != found:
            raise StoreError(
                f"files of a store have the hashes in its manifest; {store / name} has {found}, "
                f"the manifest says {recorded}. The store is damaged: delete it and extract again."
            )
    path = {"driver": "file", "path": str(store / "features")}
    array: Any = ts.open({"driver": "zarr3", "kvstore": path}).result()
    ids = np.array((store / "ids.txt").read_text().split("\n")[:-1])
    return FeatureStore(manifest, ids, np.asarray(array.read().result()))


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
