"""Multi-head attention through `jax.nn.dot_product_attention`, fused where the device can."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

INIT = nn.initializers.truncated_normal(0.02)
"""Of every matrix of a transformer, as in BERT and ViT."""


class SelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(w / heads)) V, then a linear map; the softmax is in float32.

    Attributes:
        heads: of width w / heads each.
        causal: whether a token sees only itself and those before it.
        dtype: of the products.
    """

    heads: int
    causal: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Tokens [b, l, w] and which of them may be seen [b, l], bool -> [b, l, w]."""
        width = x.shape[-1]
        shape = (3, self.heads, width // self.heads)
        qkv = nn.DenseGeneral(shape, dtype=self.dtype, kernel_init=INIT, name="qkv")(x)
        query, key, value = (qkv[:, :, part] for part in range(3))
        x = attend(query, key, value, mask, self.causal).reshape(x.shape)
        return nn.Dense(width, dtype=self.dtype, kernel_init=INIT, name="out")(x)


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    causal: bool = False,
) -> jax.Array:
    """Scaled dot-product attention.

    Args:
        query: [b, m, heads, width].
        key: [b, l, heads, width].
        value: [b, l, heads, width].
        mask: [b, l] bool, true for keys that may be seen; None for all. A row without any sees
            all of them.
        causal: whether query i sees only keys up to i.

    Returns:
        [b, m, heads, width] in the dtype of the query.
    """
    if mask is not None:  # cuDNN wants it for every query
        shape = (len(mask), 1, query.shape[1], mask.shape[1])
        mask = jnp.broadcast_to(mask[:, None, None, :], shape)
    # JAX's own code mixes bfloat16 and float32, which a caller's strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        return jax.nn.dot_product_attention(
            query,
            key,
            value,
            mask=mask,
            is_causal=causal,
            implementation="cudnn" if _cudnn_can(query, key, mask) else "xla",
        )


def _cudnn_can(query: jax.Array, key: jax.Array, mask: jax.Array | None) -> bool:
    """What cuDNN's flash attention takes; everything else is left to XLA.

    A mask becomes an additive bias there, whose gradient needs even lengths.
    """
    if not _on_cuda() or query.dtype not in (jnp.bfloat16, jnp.float16):
        return False
    width = query.shape[-1]
    even = query.shape[1] % 2 == 0 and key.shape[1] % 2 == 0
    return width % 8 == 0 and width <= 128 and (mask is None or even)


def _on_cuda() -> bool:
    """Whether programs run on NVIDIA GPUs, unless they are told otherwise."""
    return jax.default_backend() == "gpu" and "cuda" in jax.devices()[0].client.platform_version
