"""An auto-encoder of a teacher's features: what the method "ft" matches instead of them.

    code  = relu(A_3 relu(A_2 relu(A_1 x)))        t -> t -> t/2 -> t/2
    again = B_3 relu(B_2 relu(B_1 code))           t/2 -> t/2 -> t -> t

Fitted by Adam to the mean squared error on the training split, with rows shuffled in every epoch,
and stopped by the error on the tune split.
"""

import itertools
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from aft_jax.errors import NonFiniteError
from aft_jax.progress import progress_bar
from aft_jax.types import PyTree

_LOG = logging.getLogger(__name__)

LEARNING_RATE = 3e-4
BATCH_ROWS = 1024
BATCHES = 8
"""Batches of an epoch at least, of `LEAST_ROWS` or more: small splits would end after few steps."""
LEAST_ROWS = 16
LEAST_UNITS = 16
"""Units of a layer at least: the few of a narrow teacher could all be dead from the start."""

_ADAM = optax.adam(LEARNING_RATE)

Layers = Sequence[tuple[Any, Any]]
"""Each layer's weight [m, n] and bias [n]."""


class Encoder(NamedTuple):
    """A fitted encoder.

    Attributes:
        layers: of the encoder alone.
        scale: root mean square of the training features, by which they are divided, and the code
            multiplied: teachers keep their sizes relative to each other.
        epochs: passes up to the best one.
        error: mean squared error on tune after that pass, of features divided by `scale`.
        mean_error: the same if every row is taken for the mean training row.
    """

    layers: Layers
    scale: np.ndarray
    epochs: int
    error: float
    mean_error: float


def fit_encoder(
    name: str,
    train: np.ndarray,
    tune: np.ndarray,
    *,
    seed: int,
    epochs: int = 500,
    patience: int = 10,
    width: int = 0,
) -> Encoder:
    """Fits an auto-encoder, and keeps its encoder as it was when the error on tune was least.

    Batches have 1,024 rows, or an eighth of the split where that is less. The same arguments give
    the same encoder.

    Args:
        name: of the teacher, for messages.
        train: [n, t] features that are fitted.
        tune: [m, t] features that decide when to stop.
        seed: of initial weights and shuffles.
        epochs: passes over `train` at most.
        patience: passes without a smaller error on `tune` before stopping.
        width: of the code; 0 for t/2, at least 16.

    Returns:
        The encoder.

    Raises:
        NonFiniteError: the error on tune is never finite.
    """
    scale = _root_mean_square(train)
    rows, others = (jnp.asarray(array / scale, jnp.float32) for array in (train, tune))
    mean_error = float(jnp.mean(jnp.square(others - jnp.mean(rows, axis=0)[None])))
    params = _initial(jax.random.key(seed), train.shape[1], width)
    with progress_bar(epochs, f"auto-encoder of {name}", "epoch") as bar:
        layers, epoch, error = _fit(params, rows, others, seed, patience, bar)
    encoder = Encoder(layers, scale, epoch, error, mean_error)
    _report(name, encoder)
    return encoder


def encode(encoder: Encoder, features: jax.Array) -> jax.Array:
    """The code of features.

    Args:
        encoder: fitted.
        features: [b, t].

    Returns:
        [b, t/2], not negative; a constant as far as gradients go.
    """
    layers = jax.tree.map(lambda array: jnp.asarray(array, features.dtype), encoder.layers)
    scale = jnp.asarray(encoder.scale, features.dtype)
    return jax.lax.stop_gradient(jax.nn.relu(_through(layers, features / scale)) * scale)


def _root_mean_square(features: np.ndarray) -> np.ndarray:
    square = np.mean(np.square(features, dtype=np.float64))
    return np.asarray(np.sqrt(square) or 1.0, np.float32)


def _report(name: str, encoder: Encoder) -> None:
    if not np.isfinite(encoder.error):
        raise NonFiniteError(
            f"an auto-encoder has a finite error on tune; that of {name} has {encoder.error}. Look "
            "at the teacher's features: their root mean square on train is "
            f"{float(encoder.scale):g}."
        )
    _LOG.info(
        "auto-encoder of %s: least error on tune after %d epochs, %.3g of a variance of %.3g",
        *(name, encoder.epochs, encoder.error, encoder.mean_error),
    )
    if encoder.error >= encoder.mean_error:
        _LOG.warning(
            "the auto-encoder of %s does no better on tune than the mean row: its code says "
            "little about the features",
            name,
        )


def _fit(
    params: PyTree, train: jax.Array, tune: jax.Array, seed: int, patience: int, bar: tqdm
) -> tuple[Layers, int, float]:
    """(The encoder's layers, their epoch, their error) where the error on tune was least."""
    opt_state, shuffles = _ADAM.init(params), jax.random.fold_in(jax.random.key(seed), 1)
    best, best_epoch, least = params, 0, float("inf")
    for epoch in range(1, bar.total + 1):
        key = jax.random.fold_in(shuffles, epoch)
        params, opt_state, error = _epoch(params, opt_state, train, tune, key)
        bar.update()
        if float(error) < least:
            best, best_epoch, least = params, epoch, float(error)
        elif epoch - best_epoch >= patience:
            break
    return jax.device_get(best["encoder"]), best_epoch, least


@jax.jit
def _epoch(
    params: PyTree, opt_state: PyTree, train: jax.Array, tune: jax.Array, key: jax.Array
) -> tuple[PyTree, PyTree, jax.Array]:
    """One pass over shuffled rows in batches of equal size, and the error on tune after it."""
    rows = train.shape[0]
    batches = -(-rows // min(BATCH_ROWS, max(LEAST_ROWS, rows // BATCHES)))
    size = -(-rows // batches)
    places = jnp.arange(batches * size)
    # The last rows of the last batch are filling: at most one a batch.
    weights = (places < rows).astype(train.dtype).reshape(batches, size)
    order = jax.random.permutation(key, rows)[jnp.minimum(places, rows - 1)]

    def step(carry, batch):
        params, opt_state = carry
        places, weights = batch
        grads = jax.grad(_error)(params, train[places], weights)
        updates, opt_state = _ADAM.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    carried, _ = jax.lax.scan(step, (params, opt_state), (order.reshape(batches, size), weights))
    return *carried, _error(carried[0], tune, jnp.ones_like(tune[:, 0]))


def _error(params: PyTree, rows: jax.Array, weights: jax.Array) -> jax.Array:
    """Mean squared error of the reconstruction."""
    code = jax.nn.relu(_through(params["encoder"], rows))
    squares = jnp.mean(jnp.square(_through(params["decoder"], code) - rows), axis=1)
    return jnp.sum(squares * weights) / jnp.sum(weights)


def _through(layers: Layers, x: jax.Array) -> jax.Array:
    """Linear layers with ReLU between them, and none after the last."""
    for number, (weight, bias) in enumerate(layers):
        x = jax.nn.relu(x) if number else x
        x = jnp.matmul(x, weight, precision=jax.lax.Precision.HIGHEST) + bias[None]
    return x


def _initial(key: jax.Array, t: int, code: int) -> PyTree:
    """Uniform weights of variance 1/(3 m) for m inputs, biases zero."""
    hidden, code = max(LEAST_UNITS, t), code or max(LEAST_UNITS, t // 2)
    uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    widths = {
        "encoder": (t, hidden, code, code),
        "decoder": (code, code, hidden, t),
    }
    return {
        part: [
            (
                uniform(jax.random.fold_in(jax.random.fold_in(key, side), i), (m, n), jnp.float32),
                jnp.zeros((n,), jnp.float32),
            )
            for i, (m, n) in enumerate(itertools.pairwise(edges))
        ]
        for side, (part, edges) in enumerate(widths.items())
    }
