"""A split's stored features as arrays in host memory, for what looks at all of them at once."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aft_jax.features.finite import require_finite
from aft_jax.features.reader import FeatureStore, require_places
from aft_jax.features.residency import columns_of, common_views, views_of


class WholeFeatures(NamedTuple):
    """The features of every example of a split.

    Attributes:
        named: name -> [n, t] float32, under the names that batches have; zero without features.
        present: [n] whether every teacher has features of the example.
    """

    named: Mapping[str, np.ndarray]
    present: np.ndarray


def read_whole(
    stores: Mapping[str, FeatureStore], ids: np.ndarray, *, views: Sequence[int], missing: str
) -> WholeFeatures:
    """Reads the features of a split.

    Args:
        stores: teacher name -> its store; all with the same views.
        ids: [n] example ids of the split.
        views: numbers of the stored views whose mean is read; (0,) for stores without views.
        missing: "error", or "skip" for examples that a store does not have.

    Returns:
        The features, by row of the split.

    Raises:
        StoreError: an example has no features, the stores have different views, or a feature is
            not finite.
    """
    stored = max(1, common_views(views_of(stores)))
    found, present = {}, np.ones(len(ids), bool)
    for name, store in stores.items():
        places = store.places(ids)
        if missing != "skip":
            require_places(store.path, ids, places)
        require_finite(store, store.rows().gather)
        found[name] = _mean_of(store, places, stored, views)
        present &= places >= 0
    return WholeFeatures(
        {
            label: np.where(present[:, None], found[name][:, start:stop], 0)
            for label, (name, start, stop) in columns_of(stores).items()
        },
        present,
    )


def _mean_of(
    store: FeatureStore, places: np.ndarray, stored: int, views: Sequence[int]
) -> np.ndarray:
    """[n, t] float32, the mean over some of each example's views."""
    rows = store.rows()
    starts = np.maximum(places, 0) * stored
    total = rows.gather(starts + views[0]).astype(np.float32)
    for number in views[1:]:
        total += rows.gather(starts + number).astype(np.float32)
    return total / np.float32(len(views))
