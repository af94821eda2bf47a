"""Kernel alignment: how alike the kernel of the features and that of the labels are."""

import numpy as np

from aft_jax.scores.labelled import labelled
from aft_jax.scores.moments import Moments, moments


def alignment(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """Centred kernel alignment of the features with the labels, by moments.

        F, Y centred features and indicators of the classes
        alignment = |F^T Y|^2 / (|F^T F| |Y^T Y|)

    which is the cosine between the [n, n] kernels F F^T and Y Y^T, without either: F^T Y takes
    O(n t k), F^T F O(n t min(n, t)).

    Args:
        features: [n, t] of any float type; computed in float64.
        labels: [n] class indices; rows of -1 are left out.
        num_classes: k.

    Returns:
        Between 0 and 1, larger is better; 0 for constant features.

    Raises:
        ValueError: features or labels break a rule, or fewer than two classes have rows.

    Reference:
        Cortes, Mohri and Rostamizadeh, "Algorithms for Learning Kernels Based on Centered
        Alignment", JMLR 2012; Kornblith et al., ICML 2019, arXiv 1905.00414.
    """
    return alignment_of(moments(labelled(features, labels, num_classes)))


def alignment_of(data: Moments) -> float:
    """`alignment` of moments."""
    norm = float(np.linalg.norm(data.total))
    if norm == 0:
        return 0.0
    products = data.counts[:, None] * data.offsets  # Y^T F; centring one side centres both
    counts = data.counts.astype(np.float64)
    indicators = np.diag(counts) - np.outer(counts, counts) / data.rows
    return float(np.sum(np.square(products)) / (norm * np.linalg.norm(indicators)))
