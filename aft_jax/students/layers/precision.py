"""The dtype of a student's products; its parameters, norms, features and logits are float32."""

from typing import Any

import jax.numpy as jnp

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


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
