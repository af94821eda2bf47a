"""The AFT loss: how far the student's kernel is from the scaled teachers' kernel."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from aft_jax.losses import kernels
from aft_jax.losses.axis import AxisName
from aft_jax.losses.scales import scaled
from aft_jax.losses.squares import kernel_squares
from aft_jax.losses.validation import COMBINATIONS, KERNELS, check_choice, checked_inputs
from aft_jax.types import Array, Float

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
            built. In float32 it loses digits to a common offset of the teachers' features: about
            2e-6 of the loss at 10 times their spread, 3e-4 at 100, several percent at 1,000.
        mask: [b], bool or numbers: rows with 0 are left out exactly, as if they had been sliced
            away.
        axis_name: inside `shard_map` or `pmap`, the name of the mapped batch axis. The arrays are
            then this device's rows and the kernel is still over the global batch. Without it they
            are the whole batch, sharded in any way or not at all. (Under `vmap` with
            `spmd_axis_name`, call it outside of `jax.set_mesh`.)

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
    squares = kernel_squares(inputs.student, teacher, inputs.mask, axis_name, kernel)
    return jnp.sqrt(squares / kernels.pair_count(inputs.mask, axis_name) + EPSILON)
