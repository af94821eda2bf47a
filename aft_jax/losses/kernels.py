"""Kernels of features over the batch, differentiated with the fewest products.

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
    batch_sum,
    first_row,
    gather_rows,
    transposed,
    whole_width,
)
from aft_jax.losses.centring import centring, inverse_lengths, order_one_factors
from aft_jax.losses.moments import PRECISION
from aft_jax.losses.rows import centred_unit_rows
from aft_jax.types import Array, Float


class Kernel(NamedTuple):
    """A similarity over the batch.

    Attributes:
        values: [r, b] similarities; zero in masked rows and columns.
        diagonal: [r] each row's similarity with itself; of a cosine kernel 1 up to the epsilon, 0
            for zero and masked rows.
    """

    values: jax.Array
    diagonal: jax.Array


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


def row_products(rows: Float[Array, "r d"], others: Float[Array, "n d"]) -> Float[Array, "r n"]:
    """x_i . x_j of two sets of rows, in full precision.

    Args:
        rows: [r, d].
        others: [n, d].

    Returns:
        [r, n].
    """
    # Not `others.T`: under Auto axes rows would be gathered in two layouts, for this and for the
    # backward pass.
    return jax.lax.dot_general(rows, others, (((1,), (1,)), ((), ())), precision=PRECISION)


def _gram_forward(rows, axis_name):
    rows = whole_width(rows)
    everyone = gather_rows(rows, axis_name)
    return row_products(rows, everyone), (rows, everyone)


def _gram_backward(axis_name, residuals, cotangent):
    rows, everyone = residuals
    return (_symmetric_product(cotangent, rows, everyone, axis_name),)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _symmetric_product(cotangent, rows, everyone, axis_name):
    """2 C X for a symmetric C [r, b] and X's rows, gathered in `everyone`."""
    return 2 * jnp.matmul(cotangent, everyone, precision=PRECISION)


def _symmetric_product_forward(cotangent, rows, everyone, axis_name):
    out = _symmetric_product(cotangent, rows, everyone, axis_name)
    return out, (cotangent, rows, everyone)


def _symmetric_product_backward(axis_name, residuals, outer):
    # The map C -> 2 C X from symmetric matrices: its adjoint is the symmetric V X^T + X V^T, so
    # that second derivatives meet a symmetric cotangent again. `everyone` is `rows`, gathered: all
    # of X's gradient is returned for `rows`.
    cotangent, rows, everyone = residuals
    all_outer = gather_rows(outer, axis_name)
    for_cotangent = row_products(outer, everyone) + row_products(rows, all_outer)
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def symmetric(kernel: Float[Array, "r b"], axis_name: AxisName = None) -> Float[Array, "r b"]:
    """A symmetric kernel itself, for functions that do not treat its two indices alike.

    It sends back the symmetric part of any cotangent, as `gram` needs.

    Args:
        kernel: [r, b].
        axis_name: the mapped axis, or None.

    Returns:
        [r, b].
    """
    return kernel


def _symmetric_backward(axis_name, residual, cotangent):
    return ((cotangent + transposed(cotangent, axis_name)) / 2,)


symmetric.defvjp(lambda kernel, axis_name: (kernel, None), _symmetric_backward)


def own_entries(kernel: Float[Array, "r b"], axis_name: AxisName = None) -> Float[Array, " r"]:
    """K_ii [r] as the product of the rows gave it: equal rows have equal entries, to the last bit.

    Args:
        kernel: [r, b].
        axis_name: the mapped axis, or None.

    Returns:
        [r].
    """
    row = jax.lax.broadcasted_iota(jnp.int32, kernel.shape, 0) + first_row(kernel, axis_name)
    column = jax.lax.broadcasted_iota(jnp.int32, kernel.shape, 1)
    return jnp.sum(jnp.where(row == column, kernel, 0), axis=1)


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


def product_kernel(
    factors: Sequence[Float[Array, "r _"]], mask: Float[Array, " r"], axis_name: AxisName = None
) -> tuple[Kernel, Float[Array, ""]]:
    """The kernel of the tensor product of several features, uncentred and up to a constant.

        K = (T1 T1^T) o (T2 T2^T) o ... / scale^2

    Differentiate only functions that treat the kernel's two indices alike (see `gram`) and that do
    not depend on its scale.

    Args:
        factors: feature arrays [r, t1], [r, t2], ... in the compute dtype; one is its own product.
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.

    Returns:
        The kernel, `values` [r, b], and the scale that brought it to order one.
    """
    features = order_one_factors(factors, mask, axis_name)
    kernel = mask[:, None] * gather_rows(mask, axis_name)[None, :]
    for rows in features.rows:
        products: jax.Array = gram(rows, axis_name)
        kernel = kernel * products
    return Kernel(kernel, features.diagonal), features.scale


def centred_kernel(kernel: Kernel, mask: Float[Array, " r"], axis_name: AxisName = None) -> Kernel:
    """C = H K H with H = I - 1 1^T / b: the kernel of the centred features behind K.

    Args:
        kernel: K, zero in masked rows and columns.
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.

    Returns:
        The kernel. Rows whose centred length is lost in rounding are zero. In float32 the centring
        cancels digits where the features' common offset is large against their spread.
    """
    values, diagonal = kernel
    sums: jax.Array = _row_sums(values, axis_name)
    row_mean, mean, live, square = centring(sums, diagonal, mask, axis_name)
    pairs = live[:, None] & gather_rows(live, axis_name)[None, :]
    centred = values - row_mean[:, None] - gather_rows(row_mean, axis_name)[None, :] + mean
    return Kernel(jnp.where(pairs, centred, 0), square)


def product_cosine_kernel(
    factors: Sequence[Float[Array, "r _"]], mask: Float[Array, " r"], axis_name: AxisName = None
) -> Kernel:
    """The cosine kernel of the tensor product of several features, which is never built.

    Differentiate only functions that treat the kernel's two indices alike: see `gram`.

        values_ij = C_ij / sqrt(C_ii C_jj),  C the centred kernel of the product

    Args:
        factors: feature arrays [r, t1], [r, t2], ... in the compute dtype.
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.

    Returns:
        The kernel; `values` [r, b].
    """
    kernel, scale = product_kernel(factors, mask, axis_name)
    values, square = centred_kernel(kernel, mask, axis_name)
    inverse = inverse_lengths(square, scale)
    cosines = values * inverse[:, None] * gather_rows(inverse, axis_name)[None, :]
    return Kernel(cosines, square * jnp.square(inverse))


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
