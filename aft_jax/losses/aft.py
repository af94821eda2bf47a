"""The AFT loss: how far the student's kernel is from the scaled teachers' kernel."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.losses import kernels
from aft_jax.losses.axis import AxisName, batch_rows, batch_sum
from aft_jax.losses.factors import cosine_kernel_of
from aft_jax.losses.moments import cross_moment, second_moment
from aft_jax.losses.rows import centred_unit_rows
from aft_jax.losses.scales import scaled
from aft_jax.losses.validation import COMBINATIONS, KERNELS, check_choice, checked_inputs
from aft_jax.types import Array, Float

MOMENT_CROSSOVER = 1.0
"""Rows per feature dimension from which the moment form wins; measured by `benchmarks/loss.py`."""

EPSILON = 1e-8
"""Added to the mean squared difference: R is at least 1e-4, with gradient zero at equal kernels."""


def aft_loss(
    scales: Any,
    student_features: Float[Array | np.ndarray, "r d"]
    | Mapping[str, Float[Array | np.ndarray, "r _"]],
    teacher_features: Any,
    *,
    kernel: str = "linear",
    combine: str = "concat",
    mask: Array | np.ndarray | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """Distance between the student's kernel and that of the teachers' features after their scales.

        T~ = T * sigmoid(s)
        F' = rows of (F - mean_b F), each divided by its Euclidean norm (+ 1e-8); T' likewise of T~
        K = F' F'^T,  K_t = T' T'^T
        R = sqrt( mean_ij (K - K_t)_ij^2 + 1e-8 )

    A pure function of arrays, to be differentiated with respect to `scales` and `student_features`
    (and `teacher_features`, if wanted) and added to the task loss as beta * R. Reverse mode only;
    second derivatives are exact too. Computed in float32, or float64 where an input is float64.

    Args:
        scales: what `init_scales` returned for the teachers' widths (gates); or matrices from
            `init_dense_scales` (a linear map instead); or None (no scales).
        student_features: F [b, d], any float dtype; or name -> [b, d_name], the factors of one
            tensor product F = F_1 x F_2 x ... (outer(image, text) of an image-text student): K
            comes from the factors' kernels, and F is never built.
        teacher_features: T [b, t]; or teacher name -> [b, t_name], then `scales` has the same
            names.
        kernel: "linear", or "rbf" for exp(-|x - y|^2) on the normalised rows.
        combine: how several teachers become one: "concat" of their features, or "product", the
            tensor product (for teachers of different modality), computed from kernels and never
            built.
        mask: [b], bool or numbers: rows with 0 are left out exactly, as if they had been sliced
            away.
        axis_name: inside `shard_map` or `pmap`, the name of the mapped batch axis. The arrays are
            then this device's rows and the kernel is still over the global batch. Without it they
            are the whole batch, sharded in any way or not at all.

    Returns:
        R, a scalar between 1e-4 and 2; NaN where features are. A batch whose rows all centre to
        zero (one row, all masked) gives 1e-4 and zero gradients.

    Raises:
        TypeError: features are not floating point.
        ValueError: batch sizes, ranks, names or widths do not fit, or `kernel` or `combine` is
            unknown.

    Reference:
        Qiu et al., "Transferring Knowledge from Large Foundation Models to Small Downstream
        Models", ICML 2024, arXiv 2406.07337.
    """
    check_choice("kernel", kernel, KERNELS)
    check_choice("combine", combine, COMBINATIONS)
    inputs = checked_inputs(scales, student_features, teacher_features, mask)
    teacher = [scaled(s, t) for s, t in zip(inputs.scales, inputs.teachers, strict=True)]
    if combine == "concat" and len(teacher) > 1:
        teacher = [jnp.concatenate(teacher, axis=1)]
    if kernel == "linear" and long_batch(inputs.student, teacher, axis_name):
        squares = squares_by_moment(inputs.student[0], teacher[0], inputs.mask, axis_name)
    else:
        squares = squares_by_kernel(inputs.student, teacher, inputs.mask, axis_name, kernel)
    return jnp.sqrt(squares / kernels.pair_count(inputs.mask, axis_name) + EPSILON)


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
