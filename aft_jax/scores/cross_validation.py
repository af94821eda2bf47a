"""The accuracy of a linear probe on rows it was not fitted to."""

import math
from typing import NamedTuple

import numpy as np

from aft_jax.scores.labelled import labelled
from aft_jax.scores.logistic import find_basis, pose
from aft_jax.scores.probe import best_penalty

FOLDS = 5
TOLERANCE = 1e-5
"""Of the fits, relative: the accuracy moves by less than its standard error below it."""


class CrossValidation(NamedTuple):
    """What `cross_validate` returns.

    Attributes:
        accuracy: share of the rows predicted right, each by a probe that has not seen its label.
        error: standard error of the accuracy of n independent rows, one right and one wrong added:
            p = (right + 1) / (n + 2), error = sqrt(p (1 - p) / n).
        log_loss: mean negative log likelihood of the same predictions, in nats.
        predictions: [n] classes, of the rows with a label.
        penalties: the L2 of each fold.
    """

    accuracy: float
    error: float
    log_loss: float
    predictions: np.ndarray
    penalties: tuple[float, ...]


def cross_validate(
    features: np.ndarray, labels: np.ndarray, num_classes: int, *, folds: int = FOLDS
) -> CrossValidation:
    """Cross-validates `fit_probe`; the L2 penalty is chosen inside the folds.

    For each fold, the next one chooses L2 for a fit to the others; a fit to all but the fold with
    that L2 then predicts it. Folds hold equal shares of each class. Standardising and principal
    axes, which see no label, are those of all rows. Deterministic.

    Args:
        features: [n, t] of any float type.
        labels: [n] class indices; rows of -1 are left out.
        num_classes: k.
        folds: at least 3.

    Returns:
        The result. A class with one row is never predicted right: no fit has seen it.

    Raises:
        ValueError: features or labels break a rule, fewer than two classes have rows, or there are
            fewer rows than folds.
    """
    data = labelled(features, labels, num_classes)
    rows = len(data.labels)
    if not 3 <= folds <= rows:
        raise ValueError(
            "a fold tests, another chooses the penalty and the rest fit: folds are at least 3 and "
            f"at most the rows with a label; got {folds} folds of {rows} rows."
        )
    problem = pose(data, find_basis(data.features))
    fold_of = stratified_folds(data.labels, folds)
    losses, predictions = np.zeros(rows), np.zeros(rows, np.int64)
    penalties = []
    for fold in range(folds):
        tested, tuned = fold_of == fold, fold_of == (fold + 1) % folds

        def loss(weights: np.ndarray, tuned: np.ndarray = tuned) -> float:
            return float(np.mean(problem.losses(weights)[0][tuned]))

        l2, weights = best_penalty(problem, 1.0 - (tested | tuned), loss, TOLERANCE)
        weights = problem.fit(1.0 - tested, l2, weights, TOLERANCE)
        found, classes = problem.losses(weights)
        losses[tested], predictions[tested] = found[tested], classes[tested]
        penalties.append(l2)
    right = int(np.count_nonzero(predictions == data.classes[data.labels]))
    smoothed = (right + 1) / (rows + 2)
    error = math.sqrt(smoothed * (1 - smoothed) / rows)
    return CrossValidation(
        right / rows, error, float(np.mean(losses)), predictions, tuple(penalties)
    )


def stratified_folds(labels: np.ndarray, folds: int) -> np.ndarray:
    """Divides rows into folds that have equal shares of every class, but for a row.

    Args:
        labels: [n].
        folds: how many.

    Returns:
        [n] below `folds`.
    """
    shuffled = np.random.default_rng(0).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold_of = np.empty(len(labels), np.int64)
    fold_of[order] = np.arange(len(labels)) % folds
    return fold_of
