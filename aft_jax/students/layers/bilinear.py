"""A linear classifier of a tensor product of two features, which is never built."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.head import HEAD

# Of variance one over the p q numbers that a logit sums: 0.02, as in other heads, suits widths of
# hundreds, not of hundreds squared.
_INIT = nn.initializers.lecun_normal()


class Bilinear(nn.Module):
    """logits_k = sum_ij x_i W_ijk y_j + c_k, linear in the outer product x y^T.

    Attributes:
        num_classes: k.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """[b, p] and [b, q], both float32 -> [b, k]."""
        shape = (x.shape[-1], y.shape[-1], self.num_classes)
        kernel = self.param("kernel", _INIT, shape)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        # Either order takes 2 b p q k FLOP and leaves k numbers a column where the outer product
        # has p or q; x meets the kernel's first axis, so this one moves no kernel in memory. One
        # einsum of all three may choose the outer product.
        rows = jnp.einsum("bi,ijk->bjk", x, kernel)
        return jnp.einsum("bjk,bj->bk", rows, y) + bias[None]


def pair_classifier(num_classes: int) -> Bilinear:
    """The classifier of a student with two features, in the place of `classifier`.

    Args:
        num_classes: k.

    Returns:
        The module, to be made inside a compact `__call__`.
    """
    return Bilinear(num_classes, name=HEAD)
