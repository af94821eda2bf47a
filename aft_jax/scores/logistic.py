"""Multinomial logistic regression with an L2 penalty, as a well-conditioned convex problem.

The features are standardised and turned into their principal axes once, for all penalties and
folds. There the curvature of the loss is nearly diagonal and known beforehand, so that L-BFGS on
axes stretched by its square root needs tens of steps where it takes hundreds on the raw features.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.scores.descent import minimise
from aft_jax.scores.labelled import Labelled, wide_blocks
from aft_jax.scores.moments import own_basis, spectrum

TOLERANCE = 1e-6
"""Of the loss, relative: what is left above the rounding of float32."""

_PRECISION = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Basis:
    """Standardised features, seen from their principal axes.

    Attributes:
        mean: [t] of each feature.
        scale: [t] standard deviation; 1 for a constant feature.
        axes: [t, r] orthonormal columns; r is the rank.
        variances: [r] along them.
    """

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    variances: np.ndarray

    def rows(self, features: np.ndarray) -> np.ndarray:
        """The coordinates of [n, t] features: [n, r] float32."""
        axes = self.axes.astype(np.float32)
        blocks = map(self.standardised, wide_blocks(features))
        return np.concatenate([block.astype(np.float32) @ axes for block in blocks])

    def standardised(self, features: np.ndarray) -> np.ndarray:
        """[n, t] float64 features less their mean, divided by their scale."""
        return (features.astype(np.float64) - self.mean) / self.scale


@dataclasses.dataclass(frozen=True)
class Problem:
    """Rows to fit, on the device.

    Attributes:
        rows: [n, r] float32.
        labels: [n] int32 class indices.
        variances: [r] of the rows along each axis.
        num_classes: k.
    """

    rows: jax.Array
    labels: jax.Array
    variances: np.ndarray
    num_classes: int

    def zeros(self) -> np.ndarray:
        """[r + 1, k] weights that say nothing; the last row is the bias."""
        return np.zeros((len(self.variances) + 1, self.num_classes))

    def fit(
        self,
        weighting: np.ndarray,
        l2: float,
        start: np.ndarray,
        tolerance: float = TOLERANCE,
    ) -> np.ndarray:
        """The weights W and bias a of the least penalised mean loss.

            minimise  sum_i q_i (-log softmax(W^T z_i + a)_{y_i}) / sum_i q_i + l2 / 2 |W|^2

        Args:
            weighting: q [n]; 0 leaves a row out.
            l2: of the weights, not of the bias.
            start: [r + 1, k] where to begin.
            tolerance: relative decrease of the loss in a step that ends the search.

        Returns:
            [r + 1, k] float64, the last row the bias.
        """
        curvature = (1 - 1 / self.num_classes) / self.num_classes  # where all classes are as likely
        stretch = 1 / np.sqrt(np.append(curvature * self.variances + l2, curvature))
        penalty = l2 * np.square(stretch)
        penalty[-1] = 0
        share = jnp.asarray(weighting / np.sum(weighting), jnp.float32)
        sides = [jnp.asarray(side[:, None], jnp.float32) for side in (stretch, penalty)]
        begin = jnp.asarray(start / stretch[:, None], jnp.float32)
        limit = jnp.asarray(tolerance, jnp.float32)
        found = _minimum(begin, self.rows, self.labels, share, *sides, limit)
        return np.asarray(found, np.float64) * stretch[:, None]

    def losses(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """([n] negative log likelihood of every row, [n] its predicted class)."""
        losses, classes = _judge(jnp.asarray(weights, jnp.float32), self.rows, self.labels)
        return np.asarray(losses, np.float64), np.asarray(classes)


def find_basis(features: np.ndarray) -> Basis:
    """The principal axes of standardised features.

    Args:
        features: [n, t].

    Returns:
        The basis; of constant features it has no axis.
    """
    n, width = features.shape
    sums = (np.sum(block, axis=0) for block in wide_blocks(features))
    mean = sum(sums, np.zeros(width)) / n
    sums = (np.sum(np.square(block - mean), axis=0) for block in wide_blocks(features))
    square = sum(sums, np.zeros(width)) / n
    # The mean of equal numbers can miss them by its rounding.
    spread = square > np.square(np.finfo(np.float64).eps * n * mean)
    spread &= square > float(np.finfo(np.float32).tiny) ** 2  # the probe divides in float32
    scale = np.where(spread, np.sqrt(square), 1)
    plain = Basis(mean, scale, np.zeros((width, 0)), np.zeros(0))
    if n < width:
        rows = np.where(spread, plain.standardised(features), 0)
        coordinates, axes = own_basis(rows)
        return dataclasses.replace(plain, axes=axes, variances=np.sum(coordinates**2, axis=0) / n)
    gram = np.zeros((width, width))
    for block in wide_blocks(features):
        block = np.where(spread, plain.standardised(block), 0)
        gram += block.T @ block
    values, axes = spectrum(gram, n)
    return dataclasses.replace(plain, axes=axes, variances=values / n)


def pose(data: Labelled, basis: Basis) -> Problem:
    """Puts labelled rows on the device, in the basis."""
    labels = data.classes[data.labels].astype(np.int32)
    rows = jnp.asarray(basis.rows(data.features))
    return Problem(rows, jnp.asarray(labels), basis.variances, data.num_classes)


@jax.jit
def _minimum(start, rows, labels, share, stretch, penalty, tolerance):
    def objective(weights):
        return _loss(weights, rows, labels, share, stretch, penalty)

    return minimise(objective, start, tolerance)


def _loss(weights, rows, labels, share, stretch, penalty):
    """The objective in stretched weights and its gradient, written out: two products."""
    logits, chosen = _logits(weights * stretch, rows, labels)
    normaliser = jax.nn.logsumexp(logits, axis=1)
    likelihood = jnp.sum(jnp.where(chosen, logits, 0), axis=1) - normaliser
    residual = jnp.exp(logits - normaliser[:, None]) - chosen.astype(logits.dtype)
    residual = residual * share[:, None]
    # Of the two ways round, this one is several times faster on a CPU.
    products = jnp.matmul(residual.T, rows, precision=_PRECISION).T
    gradient = jnp.concatenate([products, jnp.sum(residual, axis=0)[None]])
    loss = jnp.sum(penalty * jnp.square(weights)) / 2 - jnp.sum(share * likelihood)
    return loss, gradient * stretch + penalty * weights


@jax.jit
def _judge(weights, rows, labels):
    logits, chosen = _logits(weights, rows, labels)
    likelihood = jnp.sum(jnp.where(chosen, logits, 0), axis=1) - jax.nn.logsumexp(logits, axis=1)
    return -likelihood, jnp.argmax(logits, axis=1)


def _logits(weights, rows, labels):
    logits = jnp.matmul(rows, weights[:-1], precision=_PRECISION) + weights[-1][None]
    classes = jnp.arange(weights.shape[1], dtype=labels.dtype)
    return logits, labels[:, None] == classes[None]
