"""Losses that compare relations between examples, and so need no map between the two widths."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.losses import kernels
from aft_jax.losses.axis import AxisName, batch_sum
from aft_jax.losses.moments import cross_moment, second_moment
from aft_jax.losses.rows import centred_rows, order_one, unit_rows
from aft_jax.losses.squares import long_batch
from aft_jax.losses.validation import checked_inputs
from aft_jax.types import Array, Float, StudentFeatures


def spkd_loss(
    student_features: StudentFeatures,
    teacher_features: Any,
    *,
    mask: Array | np.ndarray | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """Similarity-preserving distillation: rows of the two uncentred kernels must be parallel.

        Q = F F^T,  Q_t = T T^T
        loss = 1/b^2 sum_i | Q_i / |Q_i|_2 - Q_t,i / |Q_t,i|_2 |^2       Q_i the i-th row

    Args:
        student_features: F [b, d], any float dtype; or name -> [b, d_name], the factors of a tensor
            product, which is never built.
        teacher_features: T [b, t]; or name -> [b, t_name], concatenated in order of name.
        mask: [b], bool or numbers: rows with 0 are left out exactly.
        axis_name: the mapped axis inside `shard_map` or `pmap`, else None.

    Returns:
        The distance, a scalar between 0 and 4 / b, in float32, or float64 where an input is. A zero
        row has no direction: it stays zero, and so does its gradient.

    Raises:
        TypeError: features are not floating point.
        ValueError: shapes do not fit together.

    Reference:
        Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv 1907.09682,
        equations 2 to 4, for one layer.
    """
    inputs = checked_inputs(None, student_features, teacher_features, mask)

    def directions(factors: Sequence[jax.Array]) -> jax.Array:
        kernel, _ = kernels.product_kernel(factors, inputs.mask, axis_name)
        values: jax.Array = kernels.symmetric(kernel.values, axis_name)
        return unit_rows(values)

    difference = directions(inputs.student) - directions([inputs.teacher])
    squares = batch_sum(jnp.sum(jnp.square(difference)), axis_name)
    return squares / kernels.pair_count(inputs.mask, axis_name)


def cka_loss(
    student_features: StudentFeatures,
    teacher_features: Any,
    *,
    mask: Array | np.ndarray | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """One minus the linear centred kernel alignment of student and teachers.

        K = H F F^T H,  L = H T T^T H,  H = I - 1 1^T / b
        loss = 1 - <K, L> / (|K| |L|) = | K / |K| - L / |L| |^2 / 2

    From kernels in the second form, which does not cancel where they agree; from second moments,
    |F^T T|^2 / (|F^T F| |T^T T|), where the batch is longer than the features are wide.

    Args:
        student_features: F [b, d], any float dtype; or name -> [b, d_name], the factors of a tensor
            product, which is never built.
        teacher_features: T [b, t]; or name -> [b, t_name], concatenated in order of name.
        mask: [b], bool or numbers: rows with 0 are left out exactly.
        axis_name: the mapped axis inside `shard_map` or `pmap`, else None.

    Returns:
        A scalar between 0 and 1 in float32, or float64 where an input is: 1 with zero gradients
        where a side has no direction (one row, equal rows, all masked).

    Raises:
        TypeError: features are not floating point.
        ValueError: shapes do not fit together.

    Reference:
        Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, arXiv
        1905.00414; as a distillation loss, Saha et al., BMVC 2022.
    """
    inputs = checked_inputs(None, student_features, teacher_features, mask)
    student, teacher = inputs.student, [inputs.teacher]
    if long_batch(student, teacher, axis_name):
        return _cka_by_moment(student[0], teacher[0], inputs.mask, axis_name)
    own, theirs = (_centred_kernel(side, inputs.mask, axis_name) for side in (student, teacher))
    (own, own_live), (theirs, theirs_live) = (_unit(kernel, axis_name) for kernel in (own, theirs))
    squares = batch_sum(jnp.sum(jnp.square(own - theirs)), axis_name)
    return jnp.where(own_live & theirs_live, squares / 2, 1)


def _centred_kernel(
    factors: Sequence[jax.Array], mask: jax.Array, axis_name: AxisName
) -> jax.Array:
    """H K H [r, b] up to a constant; centred before the product where there is one factor."""
    if len(factors) == 1:
        rows, _ = order_one(centred_rows(factors[0], mask, axis_name), axis_name)
        return kernels.gram(rows, axis_name)
    kernel, _ = kernels.product_kernel(factors, mask, axis_name)
    return kernels.centred_kernel(kernel, mask, axis_name).values


def _unit(matrix: jax.Array, axis_name: AxisName) -> tuple[jax.Array, jax.Array]:
    """A matrix, spread by its rows, over its Frobenius norm; and whether that is not zero."""
    square = batch_sum(jnp.sum(jnp.square(matrix)), axis_name)
    live = square != 0  # NaN is no zero
    return matrix / jnp.sqrt(jnp.where(live, square, 1)), live


def _cka_by_moment(
    student: jax.Array, teacher: jax.Array, mask: jax.Array, axis_name: AxisName
) -> jax.Array:
    own, theirs = (
        order_one(centred_rows(side, mask, axis_name), axis_name)[0] for side in (student, teacher)
    )
    moments = second_moment(own), second_moment(theirs), cross_moment(own, theirs)
    squares = [jnp.sum(jnp.square(batch_sum(moment, axis_name))) for moment in moments]
    live = squares[0] * squares[1] != 0
    norms = [jnp.sqrt(jnp.where(live, square, 1)) for square in squares[:2]]
    loss = 1 - squares[2] / norms[0] / norms[1]
    # Rounding may leave less than zero, which is cut off without the gradient.
    return loss + jax.lax.stop_gradient(jnp.maximum(-loss, 0))
