"""Losses that AFT is compared with, as pure functions."""

import jax
import jax.numpy as jnp

from aft_jax.losses.axis import AxisName, batch_sum
from aft_jax.types import Array, Float


def no_kernel_loss(
    weight: Float[Array, "t d"],
    bias: Float[Array, " d"],
    student_features: Float[Array, "r d"],
    teacher_features: Float[Array, "r t"],
    *,
    mask: Float[Array, " r"] | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """AFT without its kernel: a linear map from the teacher must predict the student's features.

        P = T W + c,   loss = mean_{b, d} ((F - mean_b F) - (P - mean_b P))^2

    Args:
        weight: W [t, d].
        bias: c [d]; centring cancels it, it is kept for comparison with the published code.
        student_features: F [b, d].
        teacher_features: T [b, t], several teachers concatenated.
        mask: [b] 1 for rows that count; None counts all.
        axis_name: the mapped axis inside `shard_map` or `pmap`, else None.

    Returns:
        The mean squared error, a scalar.

    Reference:
        The "no kernel" ablation of Qiu et al., ICML 2024, arXiv 2406.07337.
    """
    if mask is None:
        mask = jnp.ones_like(student_features[:, 0])
    # Padding may hold NaN: zeroed before the product, it reaches no gradient.
    student_features = jnp.where(mask[:, None] > 0, student_features, 0)
    teacher_features = jnp.where(mask[:, None] > 0, teacher_features, 0)
    predicted = jnp.matmul(teacher_features, weight, precision=jax.lax.Precision.HIGHEST)
    difference = student_features - (predicted + bias[None])
    count = jnp.maximum(batch_sum(jnp.sum(mask), axis_name), 1)
    difference = jnp.where(mask[:, None] > 0, difference, 0)
    mean = batch_sum(jnp.sum(difference, axis=0), axis_name) / count
    squares = jnp.square(jnp.where(mask[:, None] > 0, difference - mean[None], 0))
    return batch_sum(jnp.sum(squares), axis_name) / (count * difference.shape[1])
