"""The check that stored features are numbers."""

from collections.abc import Callable

import numpy as np

from aft_jax.errors import StoreError
from aft_jax.features.reader import FeatureStore

BLOCK_ROWS = 16_384


def require_finite(store: FeatureStore, gather: Callable[[np.ndarray], np.ndarray]) -> None:
    """Refuses a store that another program wrote without looking.

    Args:
        store: the store.
        gather: [b] positions -> [b, t] of its rows, wherever they are.

    Raises:
        StoreError: a feature is NaN or infinite; the message names the row.
    """
    for start in range(0, store.manifest.shape[0], BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, store.manifest.shape[0])
        block = gather(np.arange(start, stop))
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(bad):
            row = start + int(bad[0])
            example = store.ids[row // max(1, store.manifest.views)]
            raise StoreError(
                f"features are finite; {store.path} holds NaN or infinity in row {row}, example "
                f"{str(example)!r}. Delete the store and extract the features again."
            )
