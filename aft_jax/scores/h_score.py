"""H-score: how much of the features' whitened variance lies between the classes."""

import numpy as np
import scipy.linalg

from aft_jax.scores.labelled import labelled
from aft_jax.scores.moments import Moments, moments, shrinkage

RIDGE = 1e-10
"""Of the mean variance, added to every variance: directions without any are left out."""


def h_score(
    features: np.ndarray, labels: np.ndarray, num_classes: int, *, shrink: bool = True
) -> float:
    """The H-score, by default with a shrunk covariance.

        S = cov(f),  S_b = cov(E[f | y]),  mu = tr(S) / t
        S_a = (1 - alpha) S + alpha mu I,  H = (1 - alpha) tr(S_a^-1 S_b)

    alpha is Ledoit and Wolf's; without shrinkage it is 0. H is between 0 and the number of classes
    less one; larger is better. The unshrunk score is that number for whatever features, once there
    are as many of them as rows.

    Args:
        features: [n, t] of any float type; computed in float64.
        labels: [n] class indices; rows of -1 are left out.
        num_classes: k.
        shrink: whether the covariance is shrunk.

    Returns:
        The score; 0 for constant features.

    Raises:
        ValueError: features or labels break a rule, or fewer than two classes have rows.

    Reference:
        Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer
        Learning", ICIP 2019; Ibrahim, Ponomareva and Mazumder, "Newer is not always better",
        ECML PKDD 2022, arXiv 2110.06893.
    """
    return h_score_of(moments(labelled(features, labels, num_classes)), shrink=shrink)


def h_score_of(data: Moments, *, shrink: bool = True) -> float:
    """`h_score` of moments."""
    variance = data.variance
    if not variance > 0:
        return 0.0
    total = data.total
    alpha = shrinkage(data.total_fourth, total, data.rows, data.width) if shrink else 0.0
    covariance = (1 - alpha) * total / data.rows
    covariance[np.diag_indices_from(covariance)] += (alpha + RIDGE) * variance
    factor = scipy.linalg.cho_factor(covariance, lower=True, overwrite_a=True)
    offsets = data.offsets
    solved = scipy.linalg.cho_solve(factor, offsets.T)
    return float((1 - alpha) * np.sum(data.priors * np.sum(offsets * solved.T, axis=1)))
