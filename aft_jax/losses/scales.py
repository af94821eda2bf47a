"""The learned scales on the teachers' features.

    diagonal   T~ = T * sigmoid(s)    s [t], one logit a dimension: the paper's choice
    dense      T~ = T s               s [t, t'], a full linear map without a squashing function
    uniform    T~ = T                 no parameters (scales=None)

The rank of a teacher's scales says which it is: a vector gates, a matrix maps.
"""

import numbers
from collections.abc import Mapping
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp

from aft_jax.types import Array, Float

Dims = SupportsIndex | Mapping[str, SupportsIndex]
"""Feature widths t: one number, or teacher name -> number."""


def init_scales(dims: Dims, dtype: Any = jnp.float32) -> Any:
    """Zero logits: every gate starts at sigmoid(0) = 1/2, no dimension preferred.

    Args:
        dims: teacher name -> feature width t; or one width for a single, unnamed teacher.
        dtype: of the logits.

    Returns:
        teacher name -> [t] logits; or one [t] vector where `dims` is a number.

    Raises:
        ValueError: `dims` is empty, or a width is not a positive integer.
    """
    _check_dims(dims)
    return jax.tree.map(lambda width: jnp.zeros((int(width),), dtype), _plain(dims))


def init_dense_scales(dims: Dims, dtype: Any = jnp.float32) -> Any:
    """Identity maps: dense scales start from the teachers' features as they are.

    Args:
        dims: teacher name -> feature width t; or one width for a single, unnamed teacher.
        dtype: of the maps.

    Returns:
        teacher name -> [t, t] identity; or one [t, t] array where `dims` is a number.

    Raises:
        ValueError: `dims` is empty, or a width is not a positive integer.
    """
    _check_dims(dims)
    return jax.tree.map(lambda width: jnp.eye(int(width), dtype=dtype), _plain(dims))


def gates(scales: Any) -> Any:
    """The factors that diagonal scales put on the features: sigmoid(s), in (0, 1).

    Args:
        scales: logits as `init_scales` makes them.

    Returns:
        The same structure with sigmoid applied: near 1 a dimension is kept, near 0 it is ignored.

    Raises:
        ValueError: a leaf is a matrix: dense scales have no gates.
    """
    for leaf in jax.tree.leaves(scales):
        if jnp.ndim(leaf) != 1:
            raise ValueError(
                "gates exist for diagonal scales, one vector of logits a teacher; got shape "
                f"{jnp.shape(leaf)}. Dense scales are a linear map: look at its singular values "
                "instead."
            )
    return jax.tree.map(jax.nn.sigmoid, scales)


def scaled(scales: Array | None, features: Float[Array, "b t"]) -> Float[Array, "b s"]:
    """One teacher's features T~ after its scales.

    Args:
        scales: [t] logits, [t, s] map, or None.
        features: [b, t].

    Returns:
        [b, t], or [b, s] for a map.
    """
    if scales is None:
        return features
    if scales.ndim == 1:
        return features * jax.nn.sigmoid(scales)[None]
    return jnp.matmul(features, scales, precision=jax.lax.Precision.HIGHEST)


def _plain(dims: Dims) -> SupportsIndex | dict[str, SupportsIndex]:
    return dict(dims) if isinstance(dims, Mapping) else dims


def _check_dims(dims: Dims) -> None:
    widths = dims if isinstance(dims, Mapping) else {"teacher": dims}
    if not widths:
        raise ValueError(
            "scales need at least one teacher; got an empty mapping of feature widths."
        )
    for name, width in widths.items():
        if isinstance(width, bool) or not isinstance(width, numbers.Integral) or width < 1:
            raise ValueError(
                f"a feature width is a positive integer; teacher {name!r} has {width!r}. "
                "Pass features.shape[-1]."
            )
