"""What `config.official_quirks` switches back on: how the published code trains.

SGD with momentum for everything, a cosine that falls once an epoch, whole epochs, and scales that
stay where they start. Qiu et al., ICML 2024; docs/side_by_side.md has the whole list.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from aft_jax.config import Config, OptimConfig
from aft_jax.errors import ConfigError
from aft_jax.training.optim import regularizer_peak
from aft_jax.types import FeatureSpec, PyTree, Regularizer

MOMENTUM = 0.9
SCALES = "scales"


def whole_epochs(steps: int, steps_per_epoch: int) -> int:
    """How many epochs come nearest to a number of steps.

    Args:
        steps: as asked for.
        steps_per_epoch: batches of an epoch.

    Returns:
        floor(steps / steps_per_epoch + 1/2).

    Raises:
        ConfigError: that is none; the published code would return an untrained student.
    """
    epochs = int(steps / steps_per_epoch + 0.5)
    if epochs < 1:
        raise ConfigError(
            "config.steps is rounded to whole epochs under config.official_quirks, and is at least "
            f"half of one; got {steps} steps for {steps_per_epoch} batches an epoch, which trains "
            f"nothing. Set config.steps to {-(-steps_per_epoch // 2)} or more."
        )
    return epochs


def epoch_cosine(peak: float, epochs: int, steps_per_epoch: int) -> Callable[[Any], jax.Array]:
    """A cosine by epochs, without warm-up.

        peak (1 + cos(pi e / epochs)) / 2    in epoch e = 0, ..., epochs - 1

    Args:
        peak: learning rate of the first epoch.
        epochs: in all.
        steps_per_epoch: batches of an epoch.

    Returns:
        step -> learning rate.
    """

    def rate(step: Any) -> jax.Array:
        epoch = jnp.asarray(step // steps_per_epoch, jnp.float32)
        return peak / 2 * (1 + jnp.cos(epoch * (math.pi / epochs)))

    return rate


def official_optimizer(
    config: OptimConfig, method: str, epochs: int, steps_per_epoch: int
) -> optax.GradientTransformation:
    """SGD with momentum 0.9 on a tree {"student": ..., "regularizer": ...}.

        v <- 0.9 v + g,  x <- x - rate v

    Weight decay is coupled, g + weight_decay x, and the student's alone.

    Args:
        config: rates.
        method: name of the method.
        epochs: in all.
        steps_per_epoch: batches of an epoch.

    Returns:
        The optimizer.
    """
    student = epoch_cosine(config.learning_rate, epochs, steps_per_epoch)
    peak = regularizer_peak(config, method)
    regularizer = epoch_cosine(peak, epochs, steps_per_epoch)
    return optax.partition(
        {
            "student": optax.chain(
                optax.add_decayed_weights(config.weight_decay),
                optax.sgd(student, momentum=MOMENTUM),
            ),
            "regularizer": optax.sgd(regularizer, momentum=MOMENTUM),
        },
        {"student": "student", "regularizer": "regularizer"},
    )


def official_regularizer(config: Config, regularizer: Regularizer) -> Regularizer:
    """A method whose scales stay as they start, if it has any; its other parameters are trained.

    Diagonal scales start, and stay, at zero logits: every gate is 1/2. Dense ones are one matrix
    for all teachers side by side, of normal numbers divided by the root of their total width.

    Args:
        config: the run's config.
        regularizer: its method.

    Returns:
        The regularizer.

    Raises:
        ConfigError: dense scales of a tensor product, which the published code does not have.
    """
    options = config.method_options
    dense = config.method == "aft_dense" or options.get("scales") == "dense"
    if not dense:
        return regularizer._replace(apply=_frozen(regularizer))
    if options.get("combine") == "product":
        raise ConfigError(
            "config.method_options.combine is 'concat' where scales are dense and "
            "config.official_quirks is set: the published code multiplies diagonal scales only; "
            "got 'product'. Set config.official_quirks=False, or use method 'aft'."
        )
    frozen = _frozen(regularizer)

    def init(key: jax.Array, spec: FeatureSpec) -> PyTree:
        width = sum(spec.teacher_dims.values())
        values = jax.random.normal(key, (width, width), jnp.float32) / math.sqrt(width)
        return {SCALES: {_joined(spec.teacher_dims): values}}

    def apply(params, student_features, teacher_features, **rest):
        columns = [teacher_features[name] for name in sorted(teacher_features)]
        joined = {_joined(teacher_features): jnp.concatenate(columns, axis=1)}
        return frozen(params, student_features, joined, **rest)

    return regularizer._replace(init=init, apply=apply)


def _frozen(regularizer: Regularizer) -> Any:
    """`regularizer.apply`, deaf to the gradient of its scales."""

    def apply(params, student_features, teacher_features, **rest):
        if SCALES in params:
            params = {**params, SCALES: jax.lax.stop_gradient(params[SCALES])}
        return regularizer.apply(params, student_features, teacher_features, **rest)

    return apply


def _joined(teachers: Any) -> str:
    return "+".join(sorted(teachers))
