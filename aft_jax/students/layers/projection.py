"""The last linear map of a tower: what it returns is an embedding in float32."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Projection(nn.Module):
    """W x, or W x + c.

    Attributes:
        features: p.
        use_bias: whether there is a c.
        dtype: of the factors; their products are summed in float32.
    """

    features: int
    use_bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, w] -> [b, p] in float32."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        factors = x.astype(self.dtype), kernel.astype(self.dtype)
        y = jnp.matmul(*factors, preferred_element_type=jnp.float32)
        if not self.use_bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, shape[-1:])[None]
