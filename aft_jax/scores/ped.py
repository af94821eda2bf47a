"""PED: how well the classes separate once they have been left to push each other apart."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.special

from aft_jax.scores.labelled import labelled, wide_blocks
from aft_jax.scores.moments import Moments, moments, shrinkage

STEPS = 10
STEP_SIZE = 0.05
RIDGE = 1e-6
"""Of the mean variance, added to every variance within the classes."""


class _Discriminants(NamedTuple):
    """The features in the directions that tell classes apart.

    Attributes:
        directions: [r, m] of `Moments.coordinates` less the mean of all rows.
        centres: [c, m] class means.
    """

    directions: np.ndarray
    centres: np.ndarray


def ped(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """Mean log posterior of the right class after a short motion of the class clusters.

    1. z = Q^T L^-1 (x - m) with L L^T the covariance within the classes, shrunk as Ledoit and Wolf
       do, and Q the at most c - 1 directions in which the class means then differ.
    2. A class is a ball with mass p_y = n_y / n, centre u_y and radius r_y, the standard deviation
       of its rows about u_y in one of the directions, on average: sqrt(mean |z - u_y|^2 / m) for m
       of them. (With |z - u_y| itself, which grows as sqrt(m), everything overlaps where classes
       are many, and flies apart.) Balls that overlap repel each other like springs:

           U = 1/2 sum_{i<j} p_i p_j max(0, r_i + r_j - |u_i - u_j|)^2

       and 10 steps of 0.05 go down the force: u_i += 0.05 (-dU / du_i) / p_i. Rows move with their
       class.
    3. PED = mean over the rows of log [ p_y N(z; u_y, I) / sum_j p_j N(z; u_j, I) ].

    The paper's idea is steps 1 and 2: fine-tuning pushes overlapping classes apart, so a score
    should look at the features after that push. The constants, the shrinkage and the linear
    discriminant posterior of step 3 are ours; no number here equals that of the paper's code.

    Args:
        features: [n, t] of any float type; computed in float64.
        labels: [n] class indices; rows of -1 are left out.
        num_classes: k.

    Returns:
        At most 0, larger is better; for constant features, minus the entropy of the labels.

    Raises:
        ValueError: features or labels break a rule, or fewer than two classes have rows.

    Reference:
        Li, Hu, Ge, Shan and Duan, "Exploring Model Transferability through the Lens of Potential
        Energy", ICCV 2023, arXiv 2308.15074.
    """
    return ped_of(moments(labelled(features, labels, num_classes)))


def ped_of(data: Moments) -> float:
    """`ped` of moments."""
    priors = data.priors
    if not data.variance > 0:
        return float(np.sum(priors * np.log(priors)))
    directions, centres = _discriminants(data)
    mean = priors @ data.means
    rows = np.concatenate([(x - mean) @ directions for x in wide_blocks(data.coordinates)])
    deviations = np.sum(np.square(rows - centres[data.labels]), axis=1)
    radii = np.sqrt(np.bincount(data.labels, deviations) / data.counts / max(1, rows.shape[1]))
    moved = repelled(centres, radii, priors)
    rows += (moved - centres)[data.labels]
    logits = rows @ moved.T - np.sum(np.square(moved), axis=1) / 2 + np.log(priors)
    right = logits[np.arange(len(logits)), data.labels]
    return float(np.mean(right - scipy.special.logsumexp(logits, axis=1)))


def repelled(centres: np.ndarray, radii: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """The centres of balls that have pushed each other apart for a while.

    Args:
        centres: [c, m].
        radii: [c].
        masses: [c].

    Returns:
        [c, m]. Balls that do not overlap, or lie in one point, exert no force on each other.
    """
    for _ in range(STEPS):
        square = np.sum(np.square(centres), axis=1)
        distances = square[:, None] + square[None, :] - 2 * centres @ centres.T
        distances = np.sqrt(np.maximum(distances, 0))
        overlap = np.maximum(radii[:, None] + radii[None, :] - distances, 0)
        apart = distances > 1e-6 * np.sqrt(np.max(square, initial=0))
        np.fill_diagonal(apart, False)
        # force_ij = pull_ij (u_i - u_j): a sum over j without any [c, c, m] array.
        pull = np.where(apart, masses * overlap / np.where(apart, distances, 1), 0)
        force = np.sum(pull, axis=1, keepdims=True) * centres - pull @ centres
        centres = centres + STEP_SIZE * force
    return centres


def _discriminants(data: Moments) -> _Discriminants:
    alpha = shrinkage(data.within_fourth, data.within, data.rows, data.width)
    covariance = (1 - alpha) * data.within / data.rows
    mean_variance = np.trace(data.within) / (data.rows * data.width)
    covariance[np.diag_indices_from(covariance)] += alpha * mean_variance + RIDGE * data.variance
    root = scipy.linalg.cholesky(covariance, lower=True, overwrite_a=True)
    offsets = data.offsets
    whitened = scipy.linalg.solve_triangular(root, offsets.T, lower=True)
    axes, lengths, _ = np.linalg.svd(whitened, full_matrices=False)
    axes = axes[:, lengths > 1e-10 * lengths[0]]
    directions = scipy.linalg.solve_triangular(root.T, axes, lower=False)
    return _Discriminants(directions, offsets @ directions)
