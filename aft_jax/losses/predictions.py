"""Losses that compare predictions, the student's with those that the teachers' features make."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.losses.axis import AxisName
from aft_jax.losses.factors import multiplied_out
from aft_jax.losses.moments import PRECISION
from aft_jax.losses.rows import mean_of_rows
from aft_jax.losses.validation import check_shape, checked_inputs, compute_dtype, mask_array
from aft_jax.types import Array, Float, StudentFeatures


def btune_loss(
    student_weights: Float[Array, "k d"],
    teacher_weights: Mapping[str, Float[Array, "k _"]],
    scores: Mapping[str, Any],
    student_features: StudentFeatures,
    teacher_features: Mapping[str, Float[Array, "r _"]],
    *,
    temperature: float = 0.1,
    mask: Array | np.ndarray | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """B-Tuning: the student's posterior prediction must be the mixture of the teachers'.

        w = softmax(scores / temperature)
        loss = mean_{b, k} (F M_s^T - sum_m w_m T_m M_m^T)^2

    Args:
        student_weights: M_s [k, d], the posterior mean of LogME on the student's features before
            training.
        teacher_weights: teacher name -> M_m [k, t], likewise.
        scores: teacher name -> its LogME score, a scalar.
        student_features: F [b, d], any float dtype; or name -> [b, d_name], its factors.
        teacher_features: teacher name -> T_m [b, t]. No gradient reaches the teachers' side.
        temperature: of the weights; the smaller, the more the best teacher counts.
        mask: [b], bool or numbers: rows with 0 are left out exactly.
        axis_name: the mapped axis inside `shard_map` or `pmap`, else None.

    Returns:
        The mean squared difference, a scalar in float32, or float64 where an input is.

    Raises:
        TypeError: features are not floating point.
        ValueError: shapes or names do not fit together.

    Reference:
        You et al., "Ranking and Tuning Pre-trained Models: A New Paradigm for Exploiting Model
        Hubs", JMLR 2022, arXiv 2110.10545.
    """
    names = sorted(teacher_features)
    for argument, value in (("teacher_weights", teacher_weights), ("scores", scores)):
        if sorted(value) != names:
            raise ValueError(
                f"every teacher has weights and a score; teacher_features names {names}, "
                f"{argument} {sorted(value)}."
            )
    weights = [teacher_weights[name] for name in names]
    inputs = checked_inputs(
        None, student_features, dict(teacher_features), mask, [student_weights, *weights]
    )
    dtype = inputs.mask.dtype
    listed = jnp.stack([jnp.asarray(scores[name]).astype(dtype) for name in names])
    shares = jax.nn.softmax(listed / temperature)
    student = multiplied_out(inputs.student)
    classes = jnp.shape(student_weights)[0]
    predicted = _posterior("student_weights", student_weights, student, classes)
    target = jnp.zeros_like(predicted)
    for name, share, weight, teacher in zip(names, shares, weights, inputs.teachers, strict=True):
        target += share * _posterior(f"teacher_weights[{name!r}]", weight, teacher, classes)
    squares = jnp.square(predicted - jax.lax.stop_gradient(target))
    return mean_of_rows(jnp.mean(squares, axis=1), inputs.mask, axis_name)


def logit_distillation_loss(
    student_logits: Float[Array, "r k"],
    teacher_logits: Float[Array, "r k"],
    *,
    temperature: float = 4.0,
    mask: Array | np.ndarray | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """Knowledge distillation: the student's softened class probabilities must be the teachers'.

        p = softmax(z_t / temperature),  q = softmax(z_s / temperature)
        loss = temperature^2 mean_b sum_k p_k (log p_k - log q_k)

    The factor keeps the gradient's size when the temperature changes.

    Args:
        student_logits: z_s [b, k], any float dtype.
        teacher_logits: z_t [b, k]. No gradient reaches them.
        temperature: what both sides' logits are divided by; positive.
        mask: [b], bool or numbers: rows with 0 are left out exactly.
        axis_name: the mapped axis inside `shard_map` or `pmap`, else None.

    Returns:
        The divergence, a scalar, at least 0 up to rounding, in float32, or float64 where an input
        is.

    Raises:
        ValueError: the two have different shapes, or the temperature is not positive.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv
        1503.02531.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is positive; got {temperature}.")
    rule = "student and teacher score the same examples and classes"
    check_shape("teacher_logits", teacher_logits, jnp.shape(student_logits), rule)
    sides = student_logits, teacher_logits
    dtype = compute_dtype(sides)
    student, teacher = (side.astype(dtype) for side in sides)
    kept = jnp.ones_like(student[:, 0], jnp.bool_) if mask is None else mask_array(mask, student)
    # Padding may hold NaN. Zeroed before anything is computed, it reaches no gradient.
    student, teacher = (jnp.where(kept[:, None], side, 0) for side in (student, teacher))
    log_q = jax.nn.log_softmax(student / temperature)
    log_p = jax.nn.log_softmax(jax.lax.stop_gradient(teacher) / temperature)
    divergence = temperature**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=1)
    return mean_of_rows(divergence, kept.astype(dtype), axis_name)


def _posterior(name: str, weights: Any, features: jax.Array, classes: int) -> jax.Array:
    """X M^T [r, k]."""
    rule = "posterior weights are [classes, width], the same classes for student and teachers"
    check_shape(name, weights, (classes, features.shape[1]), rule)
    return jnp.matmul(features, weights.astype(features.dtype).T, precision=PRECISION)
