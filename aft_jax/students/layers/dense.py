"""Linear maps of tokens."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.precision import plus

INIT = nn.initializers.truncated_normal(0.02)
"""Of every matrix of a transformer, as in BERT and ViT."""


class Dense(nn.Module):
    """W x + c for every token, as one product of two matrices.

    Tokens of all rows stand below each other for it: in the gradient of a product over two axes
    XLA transposes the operands first. (ViT-S's MLP, 8 images, two CPU cores, forward and backward:
    93 ms, and 82 this way.)

    Attributes:
        features: width of the result, or widths of several axes.
        dtype: of the product.
        kernel_init: of W.
    """

    features: int | Sequence[int]
    dtype: Any
    kernel_init: Any = INIT

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., w] -> [..., *features]."""
        shape = (self.features,) if isinstance(self.features, int) else tuple(self.features)
        width, inner = x.shape[-1], math.prod(shape)
        kernel = self.param("kernel", self.kernel_init, (width, *shape)).reshape(width, inner)
        bias = self.param("bias", nn.initializers.zeros, shape).reshape(inner)
        tokens = x.reshape(-1, width).astype(self.dtype)
        y = plus(jnp.matmul(tokens, kernel.astype(self.dtype)), bias)
        return y.reshape(*x.shape[:-1], *shape)
