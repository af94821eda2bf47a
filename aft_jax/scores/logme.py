"""LogME: the evidence of a Bayesian linear model of each class's indicator, given the features."""

from typing import NamedTuple

import numpy as np

from aft_jax.scores.labelled import labelled
from aft_jax.scores.moments import Moments, moments, spectrum

ITERATIONS = 11
TOLERANCE = 1e-3
EPSILON = 1e-5
"""Added to |w|^2 and to the squared residual before dividing by them, as published."""


class LogME(NamedTuple):
    """What `logme` returns.

    Attributes:
        score: mean over the classes of the log evidence per row; larger is better.
        weights: [k, t] posterior mean of each class's weights; 0 for a class without rows.
        alphas: [k] precision of the weights; 1 for a class without rows.
        betas: [k] precision of the noise; 1 for a class without rows.
    """

    score: float
    weights: np.ndarray
    alphas: np.ndarray
    betas: np.ndarray


class _Fit(NamedTuple):
    """Of every class: [c] each."""

    alpha: np.ndarray
    beta: np.ndarray
    ratio: np.ndarray
    weight_square: np.ndarray
    residual_square: np.ndarray


def logme(features: np.ndarray, labels: np.ndarray, num_classes: int) -> LogME:
    """The logarithm of maximum evidence.

    For the indicator y of a class, F = U diag(s) V^T, x = U^T y, the fixed point of

        lambda = alpha / beta,  gamma = sum_i s_i^2 / (s_i^2 + lambda)
        m = V (s x / (s^2 + lambda)),  alpha = gamma / |m|^2,  beta = (n - gamma) / |y - F m|^2

    maximises the evidence

        t/2 log alpha + n/2 log beta - 1/2 sum_i log(alpha + beta s_i^2)
            - beta/2 |y - F m|^2 - alpha/2 |m|^2 - n/2 log(2 pi)

    of which the score is the mean over n and the classes. As published, the sum of logarithms has
    min(n, t) terms, so with fewer rows than features the score leans on log alpha: compare
    features of like width there, or read the other scores. Features are taken as they are, not
    centred. The cost is O(n t min(n, t)).

    Args:
        features: [n, t] of any float type; computed in float64.
        labels: [n] class indices; rows of -1 are left out.
        num_classes: k.

    Returns:
        Score, weights and precisions. Classes without rows are left out of the score.

    Raises:
        ValueError: features or labels break a rule, or fewer than two classes have rows.

    Reference:
        You, Liu, Wang, Jordan and Long, "Ranking and Tuning Pre-trained Models", JMLR 2022,
        arXiv 2110.10545.
    """
    return logme_of(moments(labelled(features, labels, num_classes)))


def logme_of(data: Moments) -> LogME:
    """`logme` of moments."""
    sums = data.counts[:, None] * data.means
    sigma, axes = spectrum(data.within + sums.T @ data.means, data.rows)
    projected = axes.T @ sums.T / np.sqrt(sigma)[:, None]
    fit = _fixed_point(sigma[:, None], np.square(projected), data.counts, data.rows)
    evidence = _evidence(fit, sigma[:, None], data.rows, data.width)
    directions = axes if data.axes is None else data.axes @ axes
    scaled = np.sqrt(sigma)[:, None] * projected / (sigma[:, None] + fit.ratio)
    weights = np.zeros((data.num_classes, data.width))
    weights[data.classes] = (directions @ scaled).T
    alphas, betas = np.ones((2, data.num_classes))
    alphas[data.classes], betas[data.classes] = fit.alpha, fit.beta
    return LogME(float(np.mean(evidence)), weights, alphas, betas)


def _fixed_point(sigma: np.ndarray, square: np.ndarray, counts: np.ndarray, rows: int) -> _Fit:
    """All classes at once; a class that has converged keeps the values it converged to."""
    outside = np.maximum(counts - np.sum(square, axis=0), 0)  # of |y|^2, where F does not reach
    ones = np.ones(len(counts))
    fit, moving = _Fit(ones, ones, ones, ones, ones), np.ones(len(counts), bool)
    for _ in range(ITERATIONS):
        ratio = fit.alpha / fit.beta
        kept, lost = sigma / (sigma + ratio), ratio / (sigma + ratio)
        weight_square = np.sum(square * kept / (sigma + ratio), axis=0)
        residual_square = np.sum(square * np.square(lost), axis=0) + outside
        alpha = np.sum(kept, axis=0) / (weight_square + EPSILON)
        # n - gamma, without the cancellation where F reaches every row.
        beta = (rows - len(sigma) + np.sum(lost, axis=0)) / (residual_square + EPSILON)
        new = _Fit(alpha, beta, ratio, weight_square, residual_square)
        fit = _Fit(*(np.where(moving, *pair) for pair in zip(new, fit, strict=True)))
        moving = np.abs(fit.alpha / fit.beta - ratio) > TOLERANCE * ratio
        if not moving.any() or not len(sigma):
            break
    return fit


def _evidence(fit: _Fit, sigma: np.ndarray, rows: int, width: int) -> np.ndarray:
    value = rows / 2 * (np.log(fit.beta) - np.log(2 * np.pi))
    value -= fit.beta / 2 * fit.residual_square
    if len(sigma):  # without features alpha has no part in it
        spare = width - (min(rows, width) - len(sigma))
        value += spare / 2 * np.log(fit.alpha) - fit.alpha / 2 * fit.weight_square
        value -= np.sum(np.log(fit.alpha + fit.beta * sigma), axis=0) / 2
    return value / rows
