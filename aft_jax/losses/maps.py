"""Losses that compare features through a learned map from one side to the other.

They read single features: a student's factors are multiplied out to [b, d].
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.losses.aft import aft_loss
from aft_jax.losses.axis import AxisName, batch_sum
from aft_jax.losses.factors import multiplied_out
from aft_jax.losses.moments import PRECISION
from aft_jax.losses.rows import mean_of_rows, unit_rows
from aft_jax.losses.validation import check_shape, checked_inputs
from aft_jax.types import Array, Float, StudentFeatures

DIRECTION_EPSILON = 1e-12
"""Norms are at least this where FT divides by them, as in the published code."""


def no_kernel_loss(
    weight: Float[Array, "t d"],
    bias: Float[Array, " d"],
    student_features: StudentFeatures,
    teacher_features: Any,
    *,
    mask: Array | np.ndarray | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """AFT without its kernel: a linear map from the teacher must predict the student's features.

        P = T W + c,   loss = mean_{b, d} ((F - mean_b F) - (P - mean_b P))^2

    Args:
        weight: W [t, d].
        bias: c [d]; centring cancels it, it is kept for comparison with the published code.
        student_features: F [b, d], any float dtype; or name -> [b, d_name], its factors.
        teacher_features: T [b, t]; or name -> [b, t_name], concatenated in order of name.
        mask: [b], bool or numbers: rows with 0 are left out exactly.
        axis_name: the mapped axis inside `shard_map` or `pmap`, else None.

    Returns:
        The mean squared error, a scalar in float32, or float64 where an input is.

    Raises:
        TypeError: features are not floating point.
        ValueError: shapes do not fit together.

    Reference:
        The "no kernel" ablation of Qiu et al., ICML 2024, arXiv 2406.07337.
    """
    inputs = checked_inputs(None, student_features, teacher_features, mask, (weight, bias))
    student, teacher = multiplied_out(inputs.student), inputs.teacher
    widths = (teacher.shape[1], student.shape[1])
    predicted = _linear(weight, bias, teacher, widths, "[t, d]")
    counted = inputs.mask[:, None] > 0
    difference = jnp.where(counted, student - predicted, 0)
    count = jnp.maximum(batch_sum(jnp.sum(inputs.mask), axis_name), 1)
    mean = batch_sum(jnp.sum(difference, axis=0), axis_name) / count
    squares = jnp.square(jnp.where(counted, difference - mean[None], 0))
    return batch_sum(jnp.sum(squares), axis_name) / (count * student.shape[1])


def kkd_loss(
    weight: Float[Array, "d e"],
    bias: Float[Array, " e"],
    student_features: StudentFeatures,
    teacher_features: Any,
    *,
    mask: Array | np.ndarray | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """Kernel knowledge distillation: the kernel distance of AFT with its map on the student's side.

        P = F W + c,   loss = aft_loss(None, P, T)

    The map may drop what the teachers hold and the student does not need to learn; AFT's scales
    drop what the student does not need from the teachers.

    Args:
        weight: W [d, e], square in the published code.
        bias: c [e]; centring cancels it, it is kept for comparison with the published code.
        student_features: F [b, d], any float dtype; or name -> [b, d_name], its factors.
        teacher_features: T [b, t]; or name -> [b, t_name], concatenated in order of name.
        mask: [b], bool or numbers: rows with 0 are left out exactly.
        axis_name: the mapped axis inside `shard_map` or `pmap`, else None.

    Returns:
        The distance, a scalar between 1e-4 and 2, as `aft_loss` gives it.

    Raises:
        TypeError: features are not floating point.
        ValueError: shapes do not fit together.

    Reference:
        He and Ozay, "Feature Kernel Distillation", ICLR 2022; in the form that Qiu et al., ICML
        2024, arXiv 2406.07337, compare with.
    """
    inputs = checked_inputs(None, student_features, teacher_features, mask, (weight, bias))
    student = multiplied_out(inputs.student)
    widths = (student.shape[1], jnp.shape(weight)[-1])
    predicted = _linear(weight, bias, student, widths, "[d, e]")
    return aft_loss(None, predicted, inputs.teacher, mask=inputs.mask, axis_name=axis_name)


def kd_loss(
    weight: Float[Array, "d t"],
    bias: Float[Array, " t"],
    student_features: StudentFeatures,
    teacher_features: Any,
    *,
    mask: Array | np.ndarray | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """Knowledge distillation of features: a linear map of the student's must predict the teachers'.

        P = F W + c,   loss = mean_{b, t} (P - T)^2

    Args:
        weight: W [d, t].
        bias: c [t].
        student_features: F [b, d], any float dtype; or name -> [b, d_name], its factors.
        teacher_features: T [b, t]; or name -> [b, t_name], concatenated in order of name.
        mask: [b], bool or numbers: rows with 0 are left out exactly.
        axis_name: the mapped axis inside `shard_map` or `pmap`, else None.

    Returns:
        The mean squared error, a scalar in float32, or float64 where an input is.

    Raises:
        TypeError: features are not floating point.
        ValueError: shapes do not fit together.

    Reference:
        Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv 1412.6550, in the form
        that Qiu et al., ICML 2024, arXiv 2406.07337, compare with.
    """
    inputs = checked_inputs(None, student_features, teacher_features, mask, (weight, bias))
    student, teacher = multiplied_out(inputs.student), inputs.teacher
    widths = (student.shape[1], teacher.shape[1])
    predicted = _linear(weight, bias, student, widths, "[d, t]")
    return mean_of_rows(jnp.mean(jnp.square(predicted - teacher), axis=1), inputs.mask, axis_name)


def ft_loss(
    params: Any,
    student_features: StudentFeatures,
    teacher_features: Any,
    *,
    mask: Array | np.ndarray | None = None,
    axis_name: AxisName = None,
) -> Float[Array, ""]:
    """Factor transfer: an MLP of the student's features must point where the teachers' codes do.

        P = relu(relu(F W_1 + c_1) W_2 + c_2) W_3 + c_3
        loss = mean_b | P / |P|_2 - T / |T|_2 |_1       norms at least 1e-12

    Args:
        params: {"first": {"weight": W_1 [d, d], "bias": c_1 [d]}, "second": W_2 [d, t] likewise,
            "third": W_3 [t, t]}; `init_ft_map` makes them.
        student_features: F [b, d], any float dtype; or name -> [b, d_name], its factors.
        teacher_features: T [b, t], the codes that an auto-encoder gives the teachers' features; or
            name -> [b, t_name], concatenated in order of name. No gradient reaches them.
        mask: [b], bool or numbers: rows with 0 are left out exactly.
        axis_name: the mapped axis inside `shard_map` or `pmap`, else None.

    Returns:
        The distance, a scalar between 0 and 2 sqrt(t), in float32, or float64 where an input is. A
        zero row has no direction: it stays zero, and so does its gradient.

    Raises:
        TypeError: features are not floating point.
        ValueError: shapes do not fit together.

    Reference:
        Kim et al., "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS
        2018, arXiv 1802.04977.
    """
    leaves = jax.tree.leaves(params)
    inputs = checked_inputs(None, student_features, teacher_features, mask, leaves)
    student, teacher = multiplied_out(inputs.student), jax.lax.stop_gradient(inputs.teacher)
    d, t = student.shape[1], teacher.shape[1]
    hidden = jax.nn.relu(_layer(params, "first", student, (d, d)))
    hidden = jax.nn.relu(_layer(params, "second", hidden, (d, t)))
    predicted = _layer(params, "third", hidden, (t, t))
    own, theirs = (unit_rows(side, DIRECTION_EPSILON) for side in (predicted, teacher))
    return mean_of_rows(jnp.sum(jnp.abs(own - theirs), axis=1), inputs.mask, axis_name)


def _layer(params: Any, name: str, rows: jax.Array, widths: tuple[int, int]) -> jax.Array:
    layer = params[name]
    return _linear(layer["weight"], layer["bias"], rows, widths, "[in, out]", f"{name} ")


def _linear(
    weight: Any, bias: Any, rows: jax.Array, widths: tuple[int, int], dims: str, where: str = ""
) -> jax.Array:
    """X W + c in the rows' dtype, after a look at the shapes."""
    rule = f"a map is a weight {dims} and a bias, as wide as the features on its two sides"
    check_shape(f"{where}weight", weight, widths, rule)
    check_shape(f"{where}bias", bias, widths[1:], rule)
    product = jnp.matmul(rows, weight.astype(rows.dtype), precision=PRECISION)
    return product + bias.astype(rows.dtype)[None]
