"""The dtype of a student's products; its parameters, norms, features and logits are float32."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}


def compute_dtype(name: Any) -> Any:
    """The dtype of a student's products and activations.

    Args:
        name: the option `dtype` of a student.

    Returns:
        The dtype.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in DTYPES:
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}; got {name!r}")
    return DTYPES[name]


def widened(array: jax.Array) -> jax.Array:
    """An array of half precision in float32, any other as it is."""
    half = array.dtype in (jnp.bfloat16, jnp.float16)
    return array.astype(jnp.float32) if half else array


def plus(x: jax.Array, parameter: jax.Array | np.ndarray) -> jax.Array:
    """The sum x + parameter, added in float32, in the dtype of x.

    The gradient of what is broadcast over rows is a sum over them, and in bfloat16 that sum stops
    growing: of 10,000 ones XLA makes 8,192 on a CPU. Through float32 it does not.

    Args:
        x: [..., *s].
        parameter: [*s], float32.

    Returns:
        [..., *s] in the dtype of x.
    """
    return (widened(x) + _beside(x, parameter)).astype(x.dtype)


def times(x: jax.Array, parameter: jax.Array | np.ndarray) -> jax.Array:
    """The product x * parameter; all else as for `plus`."""
    return (widened(x) * _beside(x, parameter)).astype(x.dtype)


def _beside(x: jax.Array, parameter: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """The parameter with the rank of x, its leading axes of length one."""
    return parameter.reshape((1,) * (x.ndim - parameter.ndim) + parameter.shape)
