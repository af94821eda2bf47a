"""Cosine kernels of centred features over the batch, differentiated with the fewest products.

Shapes: b rows in the global batch, r of them on this device (r = b unless inside shard_map or
pmap). A kernel is [r, b]: this device's rows against everyone's.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aft_jax.losses.axis import (
    AxisName,
    batch_max,
    batch_sum,
    explicit_mesh,
    gather_rows,
    whole_width,
)
from aft_jax.types import Array, Float

# The kernel's entries are differences of numbers near one: a GPU's or TPU's default product
# (tf32, bfloat16) would lose them. The loss is a sliver of a step, so it can afford full float32.
_PRECISION = jax.lax.Precision.HIGHEST

# Rounding of the mean leaves up to 4 ulp in a row that equals it: measured on the CPU, up to 65,536
# rows.
_CENTRING_ULPS = 16

# Added to a row's norm before dividing by it, as the authors do: rows far shorter than this fade to
# zero, and no entry of the derivative of a unit row exceeds 1e8.
_NORM_EPSILON = 1e-8


class Kernel(NamedTuple):
    """A similarity over the batch.

    Attributes:
        values: [r, b] similarities; zero in masked rows and columns.
        diagonal: [r] each row's similarity with itself: 1 up to the epsilon, 0 for zero and masked
            rows.
    """

    values: jax.Array
    diagonal: jax.Array


def centred_unit_rows(
    features: Float[Array, "r d"], mask: Float[Array, " r"], axis_name: AxisName = None
) -> Float[Array, "r d"]:
    """Rows of F - mean_b F, each divided by its Euclidean norm + 1e-8.

    A centred row no longer than the rounding error of the centring (16 ulp of the row's largest
    entry before it) is taken for zero: its unit row is zero and so is its gradient. Rows are
    brought to order one before they are squared, so that no magnitude under- or overflows on the
    way; rows far shorter than 1e-8 still fade to zero, as the formula says.

    Args:
        features: [r, d] in the compute dtype.
        mask: [r] 1 for rows that count, 0 for padding; masked rows come back zero.
        axis_name: the mapped axis, or None.

    Returns:
        [r, d] unit rows.
    """
    counted = mask[:, None] > 0
    features = jnp.where(counted, features, 0)  # padding may hold anything, NaN included
    count = jnp.maximum(batch_sum(jnp.sum(mask), axis_name), 1)
    mean = batch_sum(jnp.sum(features, axis=0), axis_name) / count
    centred = jnp.where(counted, features - mean[None], 0)

    # Dividing numerator and denominator by `peak` changes nothing, so no gradient runs through it.
    peak = jax.lax.stop_gradient(jnp.max(jnp.abs(centred), axis=1, keepdims=True))
    before = jax.lax.stop_gradient(jnp.max(jnp.abs(features), axis=1, keepdims=True))
    live = _outgrows_rounding(peak, before)
    # Division by one instead of zero keeps the gradient of the branch not taken finite, here and
    # below.
    peak = jnp.where(live, peak, 1)
    centred = jnp.where(live, centred, 0) / peak
    square = jnp.sum(jnp.square(centred), axis=1, keepdims=True)
    return centred / (jnp.sqrt(jnp.where(live, square, 1)) + _NORM_EPSILON / peak)


def _outgrows_rounding(centred: jax.Array, before: jax.Array) -> jax.Array:
    """Whether a quantity left over by centring is more than the rounding of what went in.

    NaN is no zero: it counts as more, so that bad features give a NaN loss and are noticed.
    """
    limits = jnp.finfo(before.dtype)
    return ~((centred <= _CENTRING_ULPS * limits.eps * before) | (centred < limits.tiny))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def gram(rows: Float[Array, "r d"], axis_name: AxisName = None) -> Float[Array, "r b"]:
    """X X^T, this device's rows with everyone's: one product forward and one backward.

    Reverse-mode differentiation of X X^T takes two products, C X + C^T X. Every function of a
    symmetric kernel that treats its two indices alike has a symmetric cotangent C, so 2 C X is the
    same; and C X needs this device's rows of C only, so the backward pass moves nothing between
    devices.

    Args:
        rows: [r, d].
        axis_name: the mapped axis, or None.

    Returns:
        [r, b].
    """
    return _gram_forward(rows, axis_name)[0]


def _product(rows: jax.Array, everyone: jax.Array) -> jax.Array:
    return jnp.matmul(rows, everyone.T, precision=_PRECISION)


def _gram_forward(rows, axis_name):
    rows = whole_width(rows)
    everyone = gather_rows(rows, axis_name)
    return _product(rows, everyone), (rows, everyone)


def _gram_backward(axis_name, residuals, cotangent):
    rows, everyone = residuals
    return (_symmetric_product(cotangent, rows, everyone, axis_name),)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _symmetric_product(cotangent, rows, everyone, axis_name):
    """2 C X for a symmetric C [r, b] and X's rows, gathered in `everyone`."""
    return 2 * jnp.matmul(cotangent, everyone, precision=_PRECISION)


def _symmetric_product_forward(cotangent, rows, everyone, axis_name):
    out = _symmetric_product(cotangent, rows, everyone, axis_name)
    return out, (cotangent, rows, everyone)


def _symmetric_product_backward(axis_name, residuals, outer):
    # The map C -> 2 C X from symmetric matrices: its adjoint is the symmetric V X^T + X V^T, so
    # that second derivatives meet a symmetric cotangent again. `everyone` is `rows`, gathered: all
    # of X's gradient is returned for `rows`.
    cotangent, rows, everyone = residuals
    all_outer = gather_rows(outer, axis_name)
    for_cotangent = _product(outer, everyone) + _product(rows, all_outer)
    for_rows = _symmetric_product(cotangent, outer, all_outer, axis_name)
    return for_cotangent, for_rows, jnp.zeros_like(everyone)


gram.defvjp(_gram_forward, _gram_backward)
_symmetric_product.defvjp(_symmetric_product_forward, _symmetric_product_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _row_sums(kernel, axis_name):
    """sum_j K_ij [r] of a symmetric K [r, b]; sends back a symmetric cotangent, as `gram` needs."""
    return jnp.sum(kernel, axis=1)


def _row_sums_backward(axis_name, residual, cotangent):
    return ((cotangent[:, None] + gather_rows(cotangent, axis_name)[None, :]) / 2,)


_row_sums.defvjp(lambda kernel, axis_name: (_row_sums(kernel, axis_name), None), _row_sums_backward)


@jax.custom_vjp
def second_moment(rows: Float[Array, "r m"]) -> Float[Array, "m m"]:
    """X^T X over this device's rows, one product forward and one backward.

    Args:
        rows: [r, m].

    Returns:
        [m, m]; the caller adds up the devices.
    """
    return cross_moment(rows, rows)


def _second_moment_backward(rows, cotangent):
    return (jnp.matmul(rows, cotangent + cotangent.T, precision=_PRECISION),)


second_moment.defvjp(lambda rows: (second_moment(rows), rows), _second_moment_backward)


def cross_moment(left: Float[Array, "r m"], right: Float[Array, "r n"]) -> Float[Array, "m n"]:
    """X^T Y over this device's rows: one product, and one more for each gradient.

    Args:
        left: X [r, m].
        right: Y [r, n].

    Returns:
        [m, n]; the caller adds up the devices.
    """
    mesh = explicit_mesh(left)
    sharding = None if mesh is None else jax.sharding.NamedSharding(mesh, jax.P(None, None))
    return jnp.matmul(left.T, right, precision=_PRECISION, out_sharding=sharding)


def cosine_kernel(
    features: Float[Array, "r d"], mask: Float[Array, " r"], axis_name: AxisName = None
) -> Kernel:
    """K = F' F'^T with F' the centred unit rows of F.

    Differentiate only functions that treat the kernel's two indices alike: see `gram`.

    Args:
        features: [r, d] in the compute dtype.
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.

    Returns:
        The kernel; `values` [r, b] within [-1, 1] up to rounding.
    """
    rows = centred_unit_rows(features, mask, axis_name)
    return Kernel(gram(rows, axis_name), jnp.sum(jnp.square(rows), axis=1))


def product_cosine_kernel(
    factors: Sequence[Float[Array, "r _"]], mask: Float[Array, " r"], axis_name: AxisName = None
) -> Kernel:
    """The cosine kernel of the tensor product of several features, which is never built.

    Differentiate only functions that treat the kernel's two indices alike: see `gram`.

        K = (T1 T1^T) o (T2 T2^T) o ...
        C = H K H,  H = I - 1 1^T / b
        values_ij = C_ij / sqrt(C_ii C_jj)

    Args:
        factors: feature arrays [r, t1], [r, t2], ... in the compute dtype.
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.

    Returns:
        The kernel; `values` [r, b]. Rows whose centred length is lost in rounding are zero. In
        float32 the centring cancels digits where the features' common offset is large against their
        spread.
    """
    row = mask[:, None]
    column = gather_rows(mask, axis_name)[None, :]
    kernel, diagonal, scale = row * column, mask, jnp.ones((), mask.dtype)
    for features in factors:
        rows = jnp.where(row > 0, features, 0)
        peak = batch_max(jnp.max(jnp.abs(jax.lax.stop_gradient(rows))), axis_name)
        peak = jnp.where(peak > 0, peak, 1)
        rows = rows / peak
        products: jax.Array = gram(rows, axis_name)
        kernel = kernel * products
        diagonal = diagonal * jnp.sum(jnp.square(rows), axis=1)
        scale = scale * peak

    count = jnp.maximum(batch_sum(jnp.sum(mask), axis_name), 1)
    sums: jax.Array = _row_sums(kernel, axis_name)
    row_mean = sums / count
    mean = batch_sum(jnp.sum(row_mean), axis_name) / count
    centred = kernel - row_mean[:, None] - gather_rows(row_mean, axis_name)[None, :] + mean
    square = diagonal - 2 * row_mean + mean
    live = _outgrows_rounding(square, diagonal + 2 * jnp.abs(row_mean) + jnp.abs(mean)) & (mask > 0)
    norm = jnp.sqrt(jnp.where(live, square, 1))
    inverse = jnp.where(live, 1 / (norm + _NORM_EPSILON / scale), 0)
    values = centred * inverse[:, None] * gather_rows(inverse, axis_name)[None, :]
    return Kernel(values, square * jnp.square(inverse))


def rbf_kernel(cosine: Kernel, mask: Float[Array, " r"], axis_name: AxisName = None) -> Kernel:
    """exp(-|x - y|^2) on the unit rows behind a cosine kernel, without any [b, b, d] difference.

    Differentiate only functions that treat the kernel's two indices alike: see `gram`.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, all three entries of the cosine kernel.

    Args:
        cosine: a cosine kernel.
        mask: [r] 1 for rows that count; the others' rows and columns come back zero.
        axis_name: the mapped axis, or None.

    Returns:
        The kernel; `values` [r, b] within [0, 1] up to rounding.
    """
    values, diagonal = cosine
    exponent = 2 * values - diagonal[:, None] - gather_rows(diagonal, axis_name)[None, :]
    pairs = mask[:, None] * gather_rows(mask, axis_name)[None, :]
    return Kernel(jnp.exp(exponent) * pairs, mask)


def pair_count(mask: Float[Array, " r"], axis_name: AxisName = None) -> Float[Array, ""]:
    """How many entries a mean over the kernel has: the square of the row count, at least one."""
    count = jnp.maximum(batch_sum(jnp.sum(mask), axis_name), 1)
    return jnp.square(count)
