"""TMI: transferability measured as intra-class variance."""

import numpy as np
import scipy.linalg

from aft_jax.scores.labelled import labelled
from aft_jax.scores.moments import Moments, moments, shrinkage

FLOOR = 1e-6
"""Of the mean variance, added to every variance: what a class without spread has left."""


def tmi(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """The entropy of the features given the class, per feature, each class taken for a Gaussian.

        v = tr(cov(f)) / t
        S_y = shrunk covariance of class y's features / v + 1e-6 I
        TMI = sum_y n_y / n * (log(2 pi e) + log det(S_y) / t) / 2

    The paper's measure is the conditional entropy H(F | Y). Two choices here are ours: it is
    estimated by a Gaussian of each class, its covariance shrunk as Ledoit and Wolf do, because
    estimates by neighbours mean little in a thousand dimensions; and it is taken per feature, of
    features scaled to mean variance one, so that teachers of different width and scale compare.

    Larger is better, in the paper's argument: features that keep their variety inside a class
    adapt better than collapsed ones. That runs against the other scores, so read it with them.

    Args:
        features: [n, t] of any float type; computed in float64.
        labels: [n] class indices; rows of -1 are left out.
        num_classes: k.

    Returns:
        In nats per feature, at most log(2 pi e) / 2 = 1.42; NaN where the features are constant or
        no class has two rows. Classes of one row are left out.

    Raises:
        ValueError: features or labels break a rule, or fewer than two classes have rows.

    Reference:
        Xu and Kang, "Fast and Accurate Transferability Measurement by Evaluating Intra-class
        Feature Variance", ICCV 2023, arXiv 2308.05986.
    """
    return tmi_of(moments(labelled(features, labels, num_classes)))


def tmi_of(data: Moments) -> float:
    """`tmi` of moments."""
    variance, usable = data.variance, data.counts > 1
    if not variance > 0 or not usable.any():
        return float("nan")
    order = np.argsort(data.labels, kind="stable")
    members = np.split(order, np.cumsum(data.counts)[:-1])
    entropy = 0.0
    for number in np.flatnonzero(usable):
        block = data.coordinates[members[number]].astype(np.float64) - data.means[number]
        volume = _log_determinant(block / np.sqrt(variance), data.width)
        entropy += data.counts[number] * volume / data.width
    return float((np.log(2 * np.pi * np.e) + entropy / np.sum(data.counts[usable])) / 2)


def _log_determinant(block: np.ndarray, width: int) -> float:
    """Log det of the shrunk covariance of centred rows, from the smaller of their two Grams."""
    rows = len(block)
    gram = block @ block.T if rows < block.shape[1] else block.T @ block
    fourth = float(np.sum(np.square(np.sum(np.square(block), axis=1))))
    alpha = shrinkage(fourth, gram, rows, width)
    least = alpha * float(np.trace(gram)) / (rows * width) + FLOOR
    gram *= (1 - alpha) / rows
    gram[np.diag_indices_from(gram)] += least
    root = scipy.linalg.cholesky(gram, lower=True, overwrite_a=True)
    seen = 2 * np.sum(np.log(np.diag(root)))
    return float(seen + (width - len(gram)) * np.log(least))
