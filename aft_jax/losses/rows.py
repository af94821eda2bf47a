"""Rows over the batch, centred, brought to unit length or averaged, with no derivative NaN.

Shapes: b rows in the global batch, r of them on this device (r = b unless inside shard_map or
pmap).
"""

import jax
import jax.numpy as jnp

from aft_jax.losses.axis import AxisName, batch_max, batch_sum
from aft_jax.types import Array, Float

# Rounding of the mean leaves up to 4 ulp in a row that equals it: measured on the CPU, up to 65,536
# rows.
_CENTRING_ULPS = 16

# Added to a row's norm before dividing by it, as the authors do: rows far shorter than this fade to
# zero, and no entry of the derivative of a unit row exceeds 1e8.
NORM_EPSILON = 1e-8


def centred_rows(
    features: Float[Array, "r d"], mask: Float[Array, " r"], axis_name: AxisName = None
) -> Float[Array, "r d"]:
    """F - mean_b F.

    A centred row no longer than the rounding error of the centring (16 ulp of the row's largest
    entry before it) is taken for zero: its gradient is zero, too.

    Args:
        features: [r, d] in the compute dtype.
        mask: [r] 1 for rows that count, 0 for padding; masked rows come back zero.
        axis_name: the mapped axis, or None.

    Returns:
        [r, d].
    """
    counted = mask[:, None] > 0
    features = jnp.where(counted, features, 0)  # padding may hold anything, NaN included
    count = jnp.maximum(batch_sum(jnp.sum(mask), axis_name), 1)
    mean = batch_sum(jnp.sum(features, axis=0), axis_name) / count
    centred = jnp.where(counted, features - mean[None], 0)
    before = _peaks(features)
    return jnp.where(outgrows_rounding(_peaks(centred), before), centred, 0)


def centred_unit_rows(
    features: Float[Array, "r d"], mask: Float[Array, " r"], axis_name: AxisName = None
) -> Float[Array, "r d"]:
    """Rows of F - mean_b F (see `centred_rows`), each divided by its Euclidean norm + 1e-8.

    Args:
        features: [r, d] in the compute dtype.
        mask: [r] 1 for rows that count, 0 for padding; masked rows come back zero.
        axis_name: the mapped axis, or None.

    Returns:
        [r, d] unit rows.
    """
    rows, peak, norm = _normed(centred_rows(features, mask, axis_name))
    return rows / (norm + NORM_EPSILON / peak)


def unit_rows(rows: Float[Array, "r d"], least: float = 0.0) -> Float[Array, "r d"]:
    """Divides each row x by max(|x|, least); a zero row stays zero, and so does its gradient.

    Args:
        rows: [r, d] in the compute dtype.
        least: the smallest norm that is divided by.

    Returns:
        [r, d] unit rows.
    """
    rows, peak, norm = _normed(rows)
    return rows / jnp.maximum(norm, least / peak)


def order_one(rows: Float[Array, "r d"], axis_name: AxisName = None) -> tuple[Array, Array]:
    """Features divided by the largest entry of the batch, so that no product under- or overflows.

    Args:
        rows: [r, d] in the compute dtype, zero where they do not count.
        axis_name: the mapped axis, or None.

    Returns:
        [r, d] and the scalar that they were divided by, a constant: what does not depend on the
        features' scale needs no gradient through it.
    """
    peak = batch_max(jnp.max(_peaks(rows)), axis_name)
    peak = jnp.where(peak < jnp.finfo(peak.dtype).tiny, 1, peak)
    return rows / peak, peak


def mean_of_rows(
    losses: Float[Array, " r"], mask: Float[Array, " r"], axis_name: AxisName = None
) -> Float[Array, ""]:
    """The mean of one number a row over the rows of the global batch that count; 0 if none does.

    Args:
        losses: [r].
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.

    Returns:
        A scalar.
    """
    count = jnp.maximum(batch_sum(jnp.sum(mask), axis_name), 1)
    return batch_sum(jnp.sum(jnp.where(mask > 0, losses, 0)), axis_name) / count


def outgrows_rounding(centred: jax.Array, before: jax.Array) -> jax.Array:
    """Whether a quantity left over by a subtraction is more than the rounding of what went in.

    NaN is no zero: it counts as more, so that bad features give a NaN loss and are noticed.
    """
    limits = jnp.finfo(before.dtype)
    return ~((centred <= _CENTRING_ULPS * limits.eps * before) | (centred < limits.tiny))


def _peaks(rows: jax.Array) -> jax.Array:
    """[r, 1] the largest absolute entry of each row, a constant."""
    return jax.lax.stop_gradient(jnp.max(jnp.abs(rows), axis=1, keepdims=True))


def _normed(rows: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows of order one, what they were divided by, and their norm; 0, 1 and 1 for a zero row.

    Rows are brought to order one before they are squared, so that no magnitude under- or overflows
    on the way. Dividing numerator and denominator of a unit row by `peak` changes nothing, so no
    gradient runs through it.
    """
    peak = _peaks(rows)
    live = ~(peak < jnp.finfo(peak.dtype).tiny)
    # Division by one instead of zero keeps the gradient of the branch not taken finite, here and
    # below.
    peak = jnp.where(live, peak, 1)
    rows = jnp.where(live, rows, 0) / peak
    square = jnp.sum(jnp.square(rows), axis=1, keepdims=True)
    return rows, peak, jnp.sqrt(jnp.where(live, square, 1))
