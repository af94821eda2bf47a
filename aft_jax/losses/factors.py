"""Features that are a tensor product, given as its factors: kernels without it, or the product.

    F = F_1 x F_2 x ...     row by row, the factors [b, d_1], [b, d_2], ... in order of name

A student of image-text pairs has F = outer(image, text), a thousand squared wide. A kernel over the
batch needs the factors' kernels only; what compares single features needs all of F.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from aft_jax.losses import kernels
from aft_jax.losses.axis import AxisName
from aft_jax.types import Array, Float, StudentFeatures


def named_factors(features: Any) -> dict[str, Any]:
    """A student's features as the factors of one tensor product.

    Args:
        features: one array, or name -> factor.

    Returns:
        name -> factor in order of name; "" names a single, bare array.

    Raises:
        ValueError: the mapping is empty.
    """
    if not isinstance(features, Mapping):
        return {"": features}
    if not features:
        raise ValueError(
            "student_features as a mapping has at least one factor; got an empty mapping. "
            "Pass one [batch, width] array, or name -> array for the factors of a tensor product."
        )
    return {name: features[name] for name in sorted(features)}


def cosine_kernel_of(
    factors: Sequence[Float[Array, "r _"]], mask: Float[Array, " r"], axis_name: AxisName = None
) -> kernels.Kernel:
    """The cosine kernel of the factors' tensor product, which is never built.

    Differentiate only functions that treat the kernel's two indices alike: see `kernels.gram`.

    Args:
        factors: at least one feature array [r, d_name] in the compute dtype.
        mask: [r] 1 for rows that count.
        axis_name: the mapped axis, or None.

    Returns:
        The kernel; `values` [r, b].
    """
    if len(factors) == 1:
        return kernels.cosine_kernel(factors[0], mask, axis_name)
    return kernels.product_cosine_kernel(factors, mask, axis_name)


def tensor_product(
    features: StudentFeatures, mask: Float[Array, " r"] | None = None
) -> Float[Array, "r d"]:
    """The product of the factors, built: for losses that read features and not only kernels.

        F_b,ij... = F_1,bi F_2,bj ...     row-major: the last name's index runs fastest

    Args:
        features: one array [r, d], or name -> [r, d_name].
        mask: [r] rows with 0 come back zero, whatever they hold; None keeps all.

    Returns:
        [r, d], d the product of the widths. It takes r d numbers of memory.

    Raises:
        ValueError: the mapping is empty.
    """
    factors = list(named_factors(features).values())
    if mask is not None:
        # Padding may hold NaN. Zeroed in each factor, it reaches no other factor's gradient.
        factors = [jnp.where(mask[:, None] > 0, factor, 0) for factor in factors]
    return multiplied_out(factors)


def multiplied_out(factors: Sequence[Float[Array, "r _"]]) -> Float[Array, "r d"]:
    """The product of factors in this order, built: [r, d_1], [r, d_2], ... -> [r, d_1 d_2 ...].

    Args:
        factors: at least one feature array.

    Returns:
        [r, d], the last factor's index running fastest.
    """
    product = factors[0]
    for factor in factors[1:]:
        pairs = product[:, :, None] * factor[:, None, :]
        product = pairs.reshape(pairs.shape[0], -1)
    return product
