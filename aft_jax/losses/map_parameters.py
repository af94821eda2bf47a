"""The parameters of learned maps between features, and the widths at which there is none."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from aft_jax.types import Array

MAP_ENTRIES = 2**28
"""The largest weight that a map may have: 1 GiB in float32, and 4 GiB with gradient and Adam."""

MAPLESS = ("aft", "aft_rbf", "aft_uniform", "rkd", "spkd", "cka")
"""Methods that learn no map, whatever the student's width."""


def init_linear_map(key: Array, rows: int, columns: int, method: str) -> dict[str, Array]:
    """A linear map X W + c at its start: W random with variance 1 / rows, c zero.

    Args:
        key: of the random numbers.
        rows: width of what is mapped.
        columns: width of what it is mapped to.
        method: whose map it is, for the error.

    Returns:
        {"weight": [rows, columns], "bias": [columns]}, float32.

    Raises:
        ValueError: the weight would have more than 2^28 entries.
    """
    check_map(method, rows, columns)
    weight = jax.nn.initializers.lecun_normal()(key, (rows, columns), jnp.float32)
    return {"weight": weight, "bias": jnp.zeros((columns,), jnp.float32)}


def init_ft_map(key: Array, d: int, t: int) -> dict[str, Any]:
    """The three layers of factor transfer at their start; see `ft_loss`.

    The last weight is zero, as published, so that the start does not depend on the student. Its
    bias is random, uniform within 1 / sqrt(t): a zero prediction would have no direction and learn
    nothing.

    Args:
        key: of the random numbers.
        d: the student's feature width.
        t: the teachers' (auto-encoded) width, summed.

    Returns:
        {"first": {"weight": [d, d], "bias": [d]}, "second": ... [d, t], "third": ... [t, t]},
        float32.

    Raises:
        ValueError: a weight would have more than 2^28 entries.
    """
    for rows, columns in ((d, d), (d, t), (t, t)):
        check_map("ft", rows, columns)
    first, second, third = jax.random.split(key, 3)
    normal = jax.nn.initializers.he_normal()  # for what a ReLU follows
    bound = 1 / math.sqrt(t)
    return {
        "first": {"weight": normal(first, (d, d)), "bias": jnp.zeros((d,))},
        "second": {"weight": normal(second, (d, t)), "bias": jnp.zeros((t,))},
        "third": {
            "weight": jnp.zeros((t, t)),
            "bias": jax.random.uniform(third, (t,), jnp.float32, -bound, bound),
        },
    }


def check_map(method: str, rows: int, columns: int) -> None:
    """Refuses a map too large to learn.

    Args:
        method: whose map it is.
        rows: width of what is mapped.
        columns: width of what it is mapped to.

    Raises:
        ValueError: its weight would have more than 2^28 entries.
    """
    if rows * columns > MAP_ENTRIES:
        raise ValueError(
            f"a learned map has at most 2^28 = {MAP_ENTRIES:,} weights; {method!r} would need "
            f"{rows:,} x {columns:,} = {rows * columns:,} for these features (a tensor product of "
            "factors is as wide as their widths' product). Methods without a map work at any "
            f"width: {', '.join(MAPLESS)}."
        )
