"""What a kernel of a tensor product takes from its rows: the factors, their means, their lengths.

Nothing here is [r, b]: the kernel is made whole or a block at a time elsewhere.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aft_jax.losses.axis import AxisName, batch_sum
from aft_jax.losses.rows import NORM_EPSILON, order_one, outgrows_rounding
from aft_jax.types import Array, Float


class Factors(NamedTuple):
    """The factors of a tensor product, each brought to order one.

    Attributes:
        rows: [r, d_name] each; zero in masked rows.
        diagonal: [r] a row's product with itself.
        scale: what all of them together were divided by, a constant.
    """

    rows: list[jax.Array]
    diagonal: jax.Array
    scale: jax.Array


class Centring(NamedTuple):
    """How K becomes H K H = K_ij - row_mean_i - row_mean_j + mean.

    Attributes:
        row_mean: [r].
        mean: of the row means, a scalar.
        live: [r] bool, rows whose centred length is more than rounding.
        square: [r] centred lengths, squared; zero where not live.
    """

    row_mean: jax.Array
    mean: jax.Array
    live: jax.Array
    square: jax.Array


def order_one_factors(
    factors: Sequence[Float[Array, "r _"]], mask: Float[Array, " r"], axis_name: AxisName = None
) -> Factors:
    """Brings factors to order one.

    Args:
        factors: feature arrays [r, t1], [r, t2], ... in the compute dtype.
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.

    Returns:
        The factors; a function of them may not depend on their scale, see `order_one`.
    """
    rows, diagonal, scale = [], mask, jnp.ones((), mask.dtype)
    for features in factors:
        factor, peak = order_one(jnp.where(mask[:, None] > 0, features, 0), axis_name)
        rows.append(factor)
        diagonal = diagonal * jnp.sum(jnp.square(factor), axis=1)
        scale = scale * peak
    return Factors(rows, diagonal, scale)


def centring(
    sums: Float[Array, " r"],
    diagonal: Float[Array, " r"],
    mask: Float[Array, " r"],
    axis_name: AxisName = None,
) -> Centring:
    """The means that centre a kernel, and what is left of its diagonal.

    Args:
        sums: [r] of the kernel's rows.
        diagonal: [r] of the kernel.
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.

    Returns:
        The means. In float32 the centring cancels digits where the features' common offset is large
        against their spread.
    """
    count = jnp.maximum(batch_sum(jnp.sum(mask), axis_name), 1)
    row_mean = sums / count
    mean = batch_sum(jnp.sum(row_mean), axis_name) / count
    square = diagonal - 2 * row_mean + mean
    live = outgrows_rounding(square, diagonal + 2 * jnp.abs(row_mean) + jnp.abs(mean)) & (mask > 0)
    return Centring(row_mean, mean, live, jnp.where(live, square, 0))


def inverse_lengths(square: Float[Array, " r"], scale: Float[Array, ""]) -> Float[Array, " r"]:
    """1 / (length + 1e-8) of centred rows; zero for a row without length.

    Args:
        square: [r] squared lengths, of what was divided by `scale`.
        scale: of the kernel.

    Returns:
        [r].
    """
    live = square != 0  # NaN is no zero
    norm = jnp.sqrt(jnp.where(live, square, 1))
    return jnp.where(live, 1 / (norm + NORM_EPSILON / scale), 0)
