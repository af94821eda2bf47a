"""Relational knowledge distillation: distances and angles between examples, from Gram matrices."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.losses import kernels
from aft_jax.losses.angles import Corners, angle_differences, smooth_l1
from aft_jax.losses.axis import AxisName, batch_sum, gather_rows
from aft_jax.losses.rows import centred_rows, outgrows_rounding
from aft_jax.losses.validation import checked_inputs
from aft_jax.types import Array, Float, StudentFeatures

DIRECTION_EPSILON = 1e-12
"""Differences of rows are divided by their norm, at least this, as in the published code."""


def rkd_loss(
    student_features: StudentFeatures,
    teacher_features: Any,
    *,
    angle_weight: float = 2.0,
    mask: Array | np.ndarray | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """Relational knowledge distillation: distances and angles within the batch must be the same.

        n_ij = |f_i - f_j|_2,  D_ij = n_ij / (mean of the n_ij that are not zero)
        A_ijk = <(f_j - f_i) / n_ij, (f_k - f_i) / n_ik>         norms at least 1e-12
        loss = 1/2 mean_ij h(D - D_t) + angle_weight / 2 mean_ijk h(A - A_t)

    h is the smooth L1 function, x^2 / 2 up to 1 and |x| - 1/2 beyond; both means are over all
    entries, those with equal indices too. Distances and angles come from the Gram matrices of the
    centred features, angles row by row: O(b^2 (d + t) + b^3) work and O(b^2) memory.

    Args:
        student_features: F [b, d], any float dtype; or name -> [b, d_name], the factors of a tensor
            product, which is never built.
        teacher_features: T [b, t]; or name -> [b, t_name], concatenated in order of name. No
            gradient reaches them.
        angle_weight: of the angles against the distances.
        mask: [b], bool or numbers: rows with 0 are left out exactly.
        axis_name: the mapped axis inside `shard_map` or `pmap`, else None.

    Returns:
        The loss, a scalar in float32, or float64 where an input is. Equal rows have no distance, no
        angle and no gradient between them; so have rows whose squared distance is lost in rounding:
        in float32, those nearer than about 0.002 of their centred length.

    Raises:
        TypeError: features are not floating point.
        ValueError: shapes do not fit together.

    Reference:
        Park et al., "Relational Knowledge Distillation", CVPR 2019, arXiv 1904.05068; weights as in
        the comparison of Qiu et al., ICML 2024, arXiv 2406.07337.
    """
    inputs = checked_inputs(None, student_features, teacher_features, mask)
    student = _relations(inputs.student, inputs.mask, axis_name)
    teacher = _relations([jax.lax.stop_gradient(inputs.teacher)], inputs.mask, axis_name)
    count = jnp.maximum(batch_sum(jnp.sum(inputs.mask), axis_name), 1)
    distances = jnp.sum(smooth_l1(student.distances - teacher.distances))
    angles: jax.Array = angle_differences(student.corners, teacher.corners)
    total = distances / count**2 + angle_weight * angles / count**3
    return batch_sum(total, axis_name) / 2


class _Relations(NamedTuple):
    """Distances [r, b] over their mean, and what makes the angles."""

    distances: jax.Array
    corners: Corners


def _relations(factors: Sequence[jax.Array], mask: jax.Array, axis_name: AxisName) -> _Relations:
    if len(factors) == 1:
        # Neither distances nor angles see a shift, and the Gram matrix cancels fewer digits.
        factors = [centred_rows(factors[0], mask, axis_name)]
    kernel, scale = kernels.product_kernel(factors, mask, axis_name)
    products: jax.Array = kernels.symmetric(kernel.values, axis_name)
    squares = kernels.own_entries(products, axis_name)
    sums = squares[:, None] + gather_rows(squares, axis_name)[None, :]
    between = sums - 2 * products
    counted = mask[:, None] * gather_rows(mask, axis_name)[None, :] > 0
    live = outgrows_rounding(between, sums) & counted
    lengths = jnp.sqrt(jnp.where(live, between, 1))
    inverse = jnp.where(live, 1 / jnp.maximum(lengths, DIRECTION_EPSILON / scale), 0)
    lengths = jnp.where(live, lengths, 0)
    pairs = batch_sum(jnp.sum(live.astype(mask.dtype)), axis_name)
    mean = batch_sum(jnp.sum(lengths), axis_name) / jnp.maximum(pairs, 1)
    distances = lengths / jnp.where(pairs > 0, mean, 1)
    halfway = products - squares[:, None] / 2
    if axis_name is None:  # under Explicit axes: the angles are cut into other blocks of rows
        halfway, inverse = gather_rows(halfway, None), gather_rows(inverse, None)
    return _Relations(distances, Corners(gather_rows(products, axis_name), halfway, inverse))
