"""The squared difference of two kernels, summed over all pairs: four forms of one number.

by kernel   two [r, b] kernels: the fewest products for short batches
by moment   second moments of the rows: for linear kernels of long batches
by grid     a tile of the kernels on each device: where the mesh is known, see `grid.py`
by block    the kernels a block at a time: where the others would be long, and have no moments
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aft_jax.losses import kernels
from aft_jax.losses.axis import AxisName, batch_rows, batch_sum, whole_width
from aft_jax.losses.centring import centring, inverse_lengths, order_one_factors
from aft_jax.losses.factors import cosine_kernel_of
from aft_jax.losses.grid import grid_mesh, squares_by_grid
from aft_jax.losses.moments import cross_moment, second_moment
from aft_jax.losses.pairs import many_pairs, pair_sums
from aft_jax.losses.rows import centred_unit_rows
from aft_jax.types import Array, Float

MOMENT_CROSSOVER = 1.0
"""Rows per feature dimension from which the moment form wins; measured by `benchmarks/loss.py`."""


def kernel_squares(
    student: Sequence[Float[Array, "r _"]],
    teacher: Sequence[Float[Array, "r _"]],
    mask: Float[Array, " r"],
    axis_name: AxisName = None,
    kernel: str = "linear",
) -> Float[Array, ""]:
    """sum_ij (K - K_t)_ij^2 in the form that suits the shapes.

    Linear kernels go over to moments before they outgrow the features; others to blocks once they
    are large.

    Args:
        student: [r, d] features in the compute dtype; several are factors of a tensor product.
        teacher: [r, t] scaled features, likewise.
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.
        kernel: "linear" or "rbf".

    Returns:
        The sum over all pairs of the global batch.
    """
    single = len(student) == len(teacher) == 1
    if kernel == "linear" and single:
        rows, width = student[0].shape[0], student[0].shape[1] + teacher[0].shape[1]
        mesh = grid_mesh(rows, width, axis_name)
        if mesh is not None:
            return squares_by_grid(student[0], teacher[0], mask, mesh)
        if long_batch(student, teacher, axis_name):
            return squares_by_moment(student[0], teacher[0], mask, axis_name)
    elif many_pairs(student[0].shape[0], batch_rows(student[0], axis_name)):
        return squares_by_block(student, teacher, mask, axis_name, kernel)
    return squares_by_kernel(student, teacher, mask, axis_name, kernel)


def squares_by_kernel(
    student: Sequence[Float[Array, "r _"]],
    teacher: Sequence[Float[Array, "r _"]],
    mask: Float[Array, " r"],
    axis_name: AxisName = None,
    kernel: str = "linear",
) -> Float[Array, ""]:
    """sum_ij (K - K_t)_ij^2 from the two kernels: 2 b^2 (d + t) FLOP forward and as many backward.

    Args:
        student: [r, d] features in the compute dtype; several are factors of a tensor product,
            and d in the cost is the sum of their widths.
        teacher: [r, t] scaled features, likewise.
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.
        kernel: "linear" or "rbf".

    Returns:
        The sum over all pairs of the global batch.
    """
    own, theirs = (_kernel_of(side, mask, axis_name, kernel) for side in (student, teacher))
    difference = own.values - theirs.values
    return batch_sum(jnp.sum(jnp.square(difference)), axis_name)


def squares_by_moment(
    student: Float[Array, "r d"],
    teacher: Float[Array, "r t"],
    mask: Float[Array, " r"],
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """The same sum from second moments, without any [b, b] array.

        |F F^T - T T^T|^2 = |F^T F|^2 - 2 |F^T T|^2 + |T^T T|^2

    It takes 2 b (d^2 + d t + t^2) FLOP forward and 2 b (d + t)^2 backward.

    The three terms cancel when the kernels agree. What remains is wrong by at most 4 ulp of
    |F F^T|^2 + |T T^T|^2 (a test holds it to that): in float32, R^2 by up to 5e-7 times the mean
    square of the kernels' entries, which matters only where R is below about 1e-3.

    Args:
        student: [r, d] features in the compute dtype.
        teacher: [r, t] scaled features.
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.

    Returns:
        The sum over all pairs of the global batch, at least zero.
    """
    student_rows = centred_unit_rows(student, mask, axis_name)
    teacher_rows = centred_unit_rows(teacher, mask, axis_name)
    own = second_moment(student_rows)
    theirs = second_moment(teacher_rows)
    cross = cross_moment(student_rows, teacher_rows)
    own, theirs, cross = (
        jnp.sum(jnp.square(batch_sum(moment, axis_name))) for moment in (own, theirs, cross)
    )
    squares = own + theirs - 2 * cross
    # Rounding may leave less than zero. The value is cut off there, but not the gradient: it comes
    # from the moments, whose difference keeps its direction.
    return squares + jax.lax.stop_gradient(jnp.maximum(-squares, 0))


def _kernel_of(
    factors: Sequence[jax.Array], mask: jax.Array, axis_name: AxisName, kernel: str
) -> kernels.Kernel:
    cosine = cosine_kernel_of(factors, mask, axis_name)
    return kernels.rbf_kernel(cosine, mask, axis_name) if kernel == "rbf" else cosine


def long_batch(
    student: Sequence[Float[Array, "r _"]],
    teacher: Sequence[Float[Array, "r _"]],
    axis_name: AxisName = None,
) -> bool:
    """Whether second moments are faster than kernels: more rows than the widths' sum.

    Args:
        student: [r, d] features; several are factors of a tensor product, which have no moments.
        teacher: [r, t] features, likewise.
        axis_name: the mapped axis, or None.

    Returns:
        The answer, known at trace time.
    """
    if len(student) > 1 or len(teacher) > 1:
        return False
    width = student[0].shape[1] + teacher[0].shape[1]
    return batch_rows(student[0], axis_name) > MOMENT_CROSSOVER * width


class _Affine(NamedTuple):
    """What centres the kernel of a product and brings it to unit length, [r] each."""

    shift: jax.Array
    inverse: jax.Array


class _Side(NamedTuple):
    """The rows behind one side's kernel, and its diagonal [r].

    K_ij = x_i . x_j of unit rows; or of several factors, not centred yet,
    K_ij = (x_i . x_j y_i . y_j ... - shift_i - shift_j) inverse_i inverse_j
    """

    factors: list[jax.Array]
    diagonal: jax.Array
    affine: _Affine | None


class _Rows(NamedTuple):
    student: _Side
    teacher: _Side
    mask: jax.Array


def squares_by_block(
    student: Sequence[Float[Array, "r _"]],
    teacher: Sequence[Float[Array, "r _"]],
    mask: Float[Array, " r"],
    axis_name: AxisName = None,
    kernel: str = "linear",
) -> Float[Array, ""]:
    """The same sum from blocks of the two kernels: no [r, b] array, forward or backward.

    It takes 2 b^2 (d + t) FLOP forward and twice as many backward; tensor products take theirs
    twice, for the means that centre them first.

    Args:
        student: [r, d] features in the compute dtype; several are factors of a tensor product.
        teacher: [r, t] scaled features, likewise.
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.
        kernel: "linear" or "rbf".

    Returns:
        The sum over all pairs of the global batch.
    """
    own, theirs = (_side(factors, mask, axis_name) for factors in (student, teacher))
    compare = _rbf_squares if kernel == "rbf" else _linear_squares
    sums: jax.Array = pair_sums(compare, _Rows(own, theirs, mask), axis_name)
    return batch_sum(jnp.sum(sums), axis_name)


def _side(factors: Sequence[jax.Array], mask: jax.Array, axis_name: AxisName) -> _Side:
    if len(factors) == 1:
        rows = whole_width(centred_unit_rows(factors[0], mask, axis_name))
        return _Side([rows], jnp.sum(jnp.square(rows), axis=1), None)
    rows, diagonal, scale = order_one_factors(factors, mask, axis_name)
    rows = [whole_width(factor) for factor in rows]
    sums: jax.Array = pair_sums(_products, rows, axis_name)
    row_mean, mean, _, square = centring(sums, diagonal, mask, axis_name)
    inverse = inverse_lengths(square, scale)
    affine = _Affine(row_mean - mean / 2, inverse)
    return _Side(rows, square * jnp.square(inverse), affine)


def _products(factors: list[jax.Array], others: list[jax.Array]) -> jax.Array:
    products = map(kernels.row_products, factors, others)
    return functools.reduce(jnp.multiply, products)


def _cosines(side: _Side, others: _Side) -> jax.Array:
    values = _products(side.factors, others.factors)
    if side.affine is None or others.affine is None:
        return values
    centred = values - side.affine.shift[:, None] - others.affine.shift[None, :]
    return centred * side.affine.inverse[:, None] * others.affine.inverse[None, :]


def _linear_squares(rows: _Rows, others: _Rows) -> jax.Array:
    difference = _cosines(rows.student, others.student) - _cosines(rows.teacher, others.teacher)
    return jnp.square(difference)


def _rbf_squares(rows: _Rows, others: _Rows) -> jax.Array:
    difference = _rbf(rows.student, others.student) - _rbf(rows.teacher, others.teacher)
    return jnp.square(difference * rows.mask[:, None] * others.mask[None, :])


def _rbf(side: _Side, others: _Side) -> jax.Array:
    diagonals = side.diagonal[:, None] + others.diagonal[None, :]
    return jnp.exp(2 * _cosines(side, others) - diagonals)
