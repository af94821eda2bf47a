import numpy as np
import pytest


@pytest.fixture
def blobs():
    """Makes (features [n, t] float64, labels [n]) of k classes whose means differ by `apart`."""

    def make(rows=60, width=8, classes=3, apart=2.0, seed=0):
        rng = np.random.default_rng(seed)
        labels = np.arange(rows) % classes
        means = apart * rng.normal(size=(classes, width))
        spread = rng.uniform(0.5, 2, width)
        return (rng.normal(size=(rows, width)) + means[labels]) * spread + 3.0, labels

    return make
