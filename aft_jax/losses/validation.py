"""What the losses accept, and the errors that say so."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aft_jax.losses.axis import gather_rows, rows_alike
from aft_jax.losses.factors import named_factors

KERNELS = ("linear", "rbf")
COMBINATIONS = ("concat", "product")


class LossInputs(NamedTuple):
    """The arguments of a loss, checked, in one dtype, as lists in order of name.

    Attributes:
        student: one [r, d] array a factor.
        teachers: one [r, t] array a teacher.
        scales: one [t] vector, [t, s] matrix or None a teacher.
        mask: [r], ones where the caller gave none.
    """

    student: list[jax.Array]
    teachers: list[jax.Array]
    scales: list[jax.Array | None]
    mask: jax.Array

    @property
    def teacher(self) -> jax.Array:
        """All teachers' features side by side, [r, t]."""
        return self.teachers[0] if len(self.teachers) == 1 else jnp.concatenate(self.teachers, 1)


def checked_inputs(
    scales: Any, student: Any, teachers: Any, mask: Any, parameters: Sequence[Any] = ()
) -> LossInputs:
    """Checks the arguments of a loss and brings them to one form.

    Args:
        scales: array, teacher name -> array, or None.
        student: [b, d] features, or name -> [b, d_name], the factors of their tensor product.
        teachers: [b, t] features, or teacher name -> [b, t].
        mask: [b] or None.
        parameters: other arrays of the loss, whose dtype counts too.

    Returns:
        The inputs in the compute dtype: float32, or float64 where an input is. Masked rows are
        zero, whatever they held.

    Raises:
        TypeError: features, scales or mask have the wrong kind of dtype.
        ValueError: shapes or names do not fit together.
    """
    named_teachers, named_scales = _paired(scales, teachers)
    named_student = named_factors(student)
    features = _feature_arrays(
        _labelled("student_features", named_student) | _labelled("teacher_features", named_teachers)
    )
    factors = len(named_student)
    scale_arrays = [
        _scale_array(name, named_scales[name], teacher.shape[1])
        for name, teacher in zip(named_teachers, features[factors:], strict=True)
    ]
    dtype = compute_dtype([*features, *scale_arrays, *parameters])
    # Here and not in a function with a rule of its own for its gradient, which would lose how the
    # caller's arrays are spread.
    features = [array.astype(dtype) for array in rows_alike(features)]
    scale_arrays = [scale if scale is None else gather_rows(scale, None) for scale in scale_arrays]
    if mask is None:
        kept = jnp.ones_like(features[0][:, 0])
    else:
        # Padding may hold NaN. Zeroed before anything is computed, it reaches no gradient.
        kept = mask_array(mask, features[0]).astype(dtype)
        features = [jnp.where(kept[:, None] > 0, array, 0) for array in features]
    return LossInputs(
        student=features[:factors],
        teachers=features[factors:],
        scales=[None if scale is None else scale.astype(dtype) for scale in scale_arrays],
        mask=kept,
    )


def check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuses a name that is not among the choices, listing them."""
    if value not in choices:
        raise ValueError(f"{argument} is one of {', '.join(map(repr, choices))}; got {value!r}.")


def _paired(scales: Any, teachers: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Teachers and scales under the same names, in order of name; "" names a single, bare array."""
    if not isinstance(teachers, Mapping):
        if isinstance(scales, Mapping):
            raise ValueError(
                "scales have the structure of teacher_features; got scales for "
                f"{sorted(scales)} and teacher_features as one array. "
                "Pass teacher_features as a mapping with these names."
            )
        return {"": teachers}, {"": scales}
    if not teachers:
        raise ValueError(
            "teacher_features needs at least one teacher; got an empty mapping. "
            "Without a teacher there is nothing to transfer: leave the loss out."
        )
    if scales is None:
        scales = dict.fromkeys(teachers)
    if not isinstance(scales, Mapping):
        raise ValueError(
            "scales have the structure of teacher_features; got one array of scales and teachers "
            f"{sorted(teachers)}. Use init_scales with the mapping name -> width."
        )
    if set(scales) != set(teachers):
        raise ValueError(
            f"every teacher has its scales; teacher_features names {sorted(teachers)}, "
            f"scales name {sorted(scales)}. "
            f"Missing in scales: {sorted(set(teachers) - set(scales))}; "
            f"without features: {sorted(set(scales) - set(teachers))}."
        )
    names = sorted(teachers)
    return {name: teachers[name] for name in names}, {name: scales[name] for name in names}


def _labelled(argument: str, named: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{argument}[{name!r}]" if name else argument: value for name, value in named.items()}


def _feature_arrays(labelled: Mapping[str, Any]) -> list[jax.Array]:
    arrays = {name: _feature_array(name, value) for name, value in labelled.items()}
    rows = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(
            "student and teacher features hold the same examples, row by row; "
            f"got batch sizes {rows}. Join the features on example id before the loss."
        )
    return list(arrays.values())


def _feature_array(name: str, value: Any) -> jax.Array:
    if isinstance(value, Mapping):
        raise TypeError(
            "features of one teacher, and one factor of a student's, are one array; "
            f"{name} is a mapping. Flatten it."
        )
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            "features are floating point (float32, bfloat16, ...); "
            f"{name} has dtype {array.dtype}. "
            "Token ids and labels are not features; cast quantised features to float first."
        )
    if array.ndim != 2:
        raise ValueError(
            f"features are [batch, width], one vector an example; {name} has shape {array.shape}. "
            "Pool over tokens or pixels first."
        )
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise ValueError(
            f"features have at least one row and one column; {name} has {array.shape}."
        )
    return array


def _scale_array(name: str, value: Any, width: int) -> jax.Array | None:
    if value is None:
        return None
    array = jnp.asarray(value)
    label = f"scales[{name!r}]" if name else "scales"
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"scales are floating point; {label} has dtype {array.dtype}.")
    if array.ndim not in (1, 2) or array.shape[0] != width:
        raise ValueError(
            f"scales are one logit a feature, shape ({width},), or a matrix with {width} rows; "
            f"{label} has shape {array.shape}. Use init_scales with the widths of these features."
        )
    return array


def check_shape(name: str, array: Any, expected: tuple[int, ...], rule: str) -> None:
    """Refuses a parameter whose shape does not fit the features.

    Args:
        name: of the argument.
        array: its value.
        expected: the shape that it should have.
        rule: what the shape follows from.

    Raises:
        ValueError: the shape is another.
    """
    if jnp.shape(array) != expected:
        raise ValueError(f"{rule}: {name} has shape {expected}; got {jnp.shape(array)}.")


def mask_array(mask: Any, rows: Any) -> jax.Array:
    """The mask as booleans, one for every row of `rows`.

    Raises:
        TypeError: it is complex.
        ValueError: it has another length.
    """
    array = jnp.asarray(mask)
    if array.shape != rows.shape[:1]:
        raise ValueError(
            f"mask has one entry a row, shape {rows.shape[:1]}; got shape {array.shape}."
        )
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"mask is bool or 0/1; got dtype {array.dtype}.")
    return array.astype(jnp.bool_)


def compute_dtype(arrays: Sequence[Any]) -> Any:
    """float64 where one of the arrays is, else float32."""
    wide = any(array is not None and array.dtype == jnp.float64 for array in arrays)
    return jnp.float64 if wide else jnp.float32
