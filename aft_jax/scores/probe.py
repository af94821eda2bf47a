"""A linear probe: multinomial logistic regression on standardised features."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from aft_jax.scores.labelled import labelled
from aft_jax.scores.logistic import TOLERANCE, Basis, Problem, find_basis, pose

L2_GRID = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Penalties to choose from; the loss beside them is a mean over rows."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted classifier: logits = ((f - mean) / scale) W + bias.

    Attributes:
        weights: [t, k] float32, W.
        bias: [k] float32.
        mean: [t] float32, of the features it was fitted to.
        scale: [t] float32, their standard deviation; 1 for a constant feature.
        l2: the penalty it was fitted with.
    """

    weights: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    l2: float

    def logits(self, features: Any) -> Any:
        """The scores of the classes.

        Args:
            features: [n, t] of any float type, of NumPy or JAX.

        Returns:
            [n, k] float32, of the same library.
        """
        rows = (features.astype(np.float32) - self.mean[None]) / self.scale[None]
        return rows @ self.weights + self.bias[None]


def fit_probe(features: np.ndarray, labels: np.ndarray, num_classes: int, l2: float) -> Probe:
    """Fits a probe.

        z = (f - mean) / scale
        W, a = argmin  mean_i -log softmax(W^T z_i + a)_{y_i} + l2 / 2 |W|^2

    by L-BFGS in float32, on the principal axes of z.

    Args:
        features: [n, t] of any float type.
        labels: [n] class indices; rows of -1 are left out.
        num_classes: k.
        l2: above 0.

    Returns:
        The probe.

    Raises:
        ValueError: features or labels break a rule, fewer than two classes have rows, or l2 is not
            above 0.
    """
    if not (l2 > 0 and math.isfinite(l2)):
        raise ValueError(
            f"l2 is a finite number above 0; got {l2}. Without it the loss of classes that a plane "
            "parts has no minimum."
        )
    data = labelled(features, labels, num_classes)
    basis = find_basis(data.features)
    problem = pose(data, basis)
    weights = problem.fit(np.ones(len(data.labels)), l2, problem.zeros())
    return _probe(basis, weights, l2)


def choose_probe(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    tune_features: np.ndarray,
    tune_labels: np.ndarray,
    num_classes: int,
) -> Probe:
    """Fits a probe to train for each penalty from the strongest on, and keeps the best on tune.

    Best is the least mean negative log likelihood; the first penalty after which it grows is the
    last one tried.

    Args:
        train_features: [n, t] of any float type.
        train_labels: [n] class indices; rows of -1 are left out.
        tune_features: [m, t].
        tune_labels: [m]; rows of -1 are left out.
        num_classes: k.

    Returns:
        The probe, with the `l2` that was chosen from `L2_GRID`.

    Raises:
        ValueError: features or labels break a rule, either split has rows of fewer than two
            classes, or their features differ in width.
    """
    train = labelled(train_features, train_labels, num_classes)
    try:
        tune = labelled(tune_features, tune_labels, num_classes)
    except ValueError as error:
        raise ValueError(f"the tune split, which chooses the penalty: {error}") from error
    widths = train.features.shape[1], tune.features.shape[1]
    if widths[0] != widths[1]:
        raise ValueError(
            f"train and tune features are of one teacher, so equally wide; got {widths[0]} and "
            f"{widths[1]}."
        )
    basis = find_basis(train.features)
    fitted, judged = pose(train, basis), pose(tune, basis)

    def loss(weights: np.ndarray) -> float:
        return float(np.mean(judged.losses(weights)[0]))

    l2, weights = best_penalty(fitted, np.ones(len(train.labels)), loss)
    return _probe(basis, weights, l2)


def best_penalty(
    problem: Problem,
    weighting: np.ndarray,
    loss: Callable[[np.ndarray], float],
    tolerance: float = TOLERANCE,
) -> tuple[float, np.ndarray]:
    """Goes through `L2_GRID`, each fit starting where the one before ended.

    Args:
        problem: the rows.
        weighting: [n] of them, 0 to leave one out.
        loss: weights [r + 1, k] -> what to minimise over the penalties.
        tolerance: of each fit.

    Returns:
        (the best penalty, its weights).
    """
    weights, best = problem.zeros(), (math.inf, L2_GRID[0], problem.zeros())
    for l2 in L2_GRID:
        weights = problem.fit(weighting, l2, weights, tolerance)
        found = loss(weights)
        if found > best[0]:
            break
        best = found, l2, weights
    return best[1:]


def _probe(basis: Basis, weights: np.ndarray, l2: float) -> Probe:
    return Probe(
        weights=(basis.axes @ weights[:-1]).astype(np.float32),
        bias=weights[-1].astype(np.float32),
        mean=basis.mean.astype(np.float32),
        scale=basis.scale.astype(np.float32),
        l2=l2,
    )
