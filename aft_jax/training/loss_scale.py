"""Dynamic loss scaling, which float16 needs: below 6e-8 it has no gradient, above 65504 infinity.

The loss is multiplied before it is differentiated and the gradients divided after. A step whose
gradients are not finite is skipped and halves the scale; `INTERVAL` finite ones in a row double it.

Reference: Micikevicius et al., "Mixed Precision Training", ICLR 2018, arXiv 1710.03740, section
3.2.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aft_jax.training.state import TrainState
from aft_jax.types import HostMetrics, Metrics, PyTree

FIRST = 2.0**15
LARGEST = 2.0**24
"""No scale is larger: gradients down to 2^-48 are then in the range of float16."""
INTERVAL = 2000
"""Finite steps in a row that double the scale."""


class LossScale(NamedTuple):
    """The scale, a part of the training state; `()` stands in its place where nothing is scaled.

    Attributes:
        scale: float32, a power of two.
        good_steps: int32, finite steps in a row since the scale last changed.
    """

    scale: jax.Array
    good_steps: jax.Array


Scaling = LossScale | tuple[()]


def init(precision: str) -> Scaling:
    """The scale before the first step: of float16 `FIRST`, of other precisions none.

    Args:
        precision: as `config.precision`.

    Returns:
        The scale, or `()`.
    """
    if precision != "float16":
        return ()
    return LossScale(jnp.full((), FIRST, jnp.float32), jnp.zeros((), jnp.int32))


def scaled(scaling: Scaling, loss: jax.Array) -> jax.Array:
    """The loss to differentiate: loss * scale."""
    return loss * scaling.scale.astype(loss.dtype) if isinstance(scaling, LossScale) else loss


def unscaled(scaling: Scaling, grads: PyTree) -> PyTree:
    """The gradients of the loss itself: grads / scale, exact while they are normal numbers."""
    if not isinstance(scaling, LossScale):
        return grads
    scale = scaling.scale
    return jax.tree.map(lambda grad: grad / scale.astype(grad.dtype), grads)


def all_finite(tree: PyTree) -> jax.Array:
    """Whether every number of a tree is finite, a scalar bool."""
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(finite)) if finite else jnp.ones((), jnp.bool_)


def adjusted(scale: LossScale, finite: jax.Array) -> LossScale:
    """The scale after a step.

    Args:
        scale: of the step.
        finite: whether the step's gradients were, a scalar bool.

    Returns:
        Half the scale after a step that was not; twice, at most `LARGEST`, after `INTERVAL` in a
        row that were.
    """
    full = scale.good_steps + 1 >= INTERVAL
    larger = jnp.where(full, jnp.minimum(scale.scale * 2, LARGEST), scale.scale)
    good = jnp.where(finite & ~full, scale.good_steps + 1, 0)
    return LossScale(jnp.where(finite, larger, scale.scale / 2), good)


def kept_if_finite(finite: jax.Array, after: PyTree, before: PyTree) -> PyTree:
    """`after` where a scalar bool is true, else `before`, leaf by leaf."""
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)


def guarded(
    before: TrainState, after: TrainState, grads: PyTree, metrics: Metrics
) -> tuple[TrainState, Metrics]:
    """Takes a step back where its gradients are not finite, if the loss was scaled.

    Args:
        before: the state that the step started from.
        after: the state after the update.
        grads: of the loss itself, see `unscaled`.
        metrics: of the batch.

    Returns:
        The state to go on with: of a skipped step only the step counter and the scale differ from
        `before`. And the metrics with "gradient_norm", which counts steps that are not skipped;
        under scaling also "loss_scale", the one that the step had, and "skipped", 1 or 0.
    """
    norm = optax.tree.norm(grads)
    one = jnp.ones_like(norm)
    scale = before.loss_scale
    if not isinstance(scale, LossScale):
        return after, metrics | {"gradient_norm": (norm, one)}
    finite = all_finite(grads)
    kept: TrainState = kept_if_finite(finite, after, before)
    counted = finite.astype(norm.dtype)
    return kept._replace(step=after.step, loss_scale=adjusted(scale, finite)), metrics | {
        "gradient_norm": (jnp.where(finite, norm, 0), counted),
        "loss_scale": (scale.scale, jnp.ones_like(scale.scale)),
        "skipped": (1 - counted, one),
    }


def exhausted(metrics: Mapping[str, Any]) -> Any:
    """Whether a step's scale was below one, where it helps no more: the gradients do not exist.

    Args:
        metrics: of a step, on the host; of several trials, sums and counts are [m].

    Returns:
        A bool, or [m] of them; false where nothing was scaled.
    """
    return np.less(metrics["loss_scale"][0], 1) if "loss_scale" in metrics else np.False_


def fault(metrics: HostMetrics) -> str:
    """What keeps a run from going on after a step.

    Args:
        metrics: of the step, on the host.

    Returns:
        A clause for an error message; empty where loss and gradients are finite, or the step was
        skipped and a smaller scale may help.
    """
    loss, norm = float(metrics["loss"][0]), float(metrics["gradient_norm"][0])
    if not np.isfinite([loss, norm]).all():
        said = f"the loss is {loss} and the gradient norm {norm}"
    elif exhausted(metrics):
        scale = float(metrics["loss_scale"][0])
        said = f"the loss scale is {scale:g}: the gradients were not finite at any larger one"
    else:
        return ""
    hint = ' (config.precision="bfloat16" has the range that float16 lacks)'
    return said + (hint if "loss_scale" in metrics else "")
