"""Multi-head attention: `jax.nn.dot_product_attention`, fused where the device can."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.students.layers.dense import Dense


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
        qkv = Dense(shape, self.dtype, name="qkv")(x)
        query, key, value = (qkv[:, :, part] for part in range(3))
        x = attend(query, key, value, mask, self.causal).reshape(x.shape)
        return Dense(width, self.dtype, name="out")(x)


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
    arrays = (query, key, value) if mask is None else (query, key, value, mask)
    by_products = functools.partial(_by_products, causal=causal)
    by_jax = functools.partial(_by_jax, causal=causal)
    # In float16 JAX's asks for a kind of product that TPUs do not have.
    tpu = by_products if query.dtype == jnp.float16 else by_jax
    return jax.lax.platform_dependent(*arrays, cpu=by_products, tpu=tpu, default=by_jax)


def _by_products(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    causal: bool,
) -> jax.Array:
    """For CPUs, where heads in front save copies: 68 ms against 80 for ViT-S's, 8 images."""
    query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, key, value))
    # Summed in float32: the products of a wide head leave the range of float16.
    logits = jnp.einsum("bhmw,bhlw->bhml", query, key, preferred_element_type=jnp.float32)
    logits = logits / np.float32(math.sqrt(query.shape[-1]))
    least = jnp.finfo(jnp.float32).min  # finite: a row that sees nothing sees all
    if mask is not None:
        logits = jnp.where(mask[:, None, None, :], logits, least)
    if causal:
        seen = np.tri(logits.shape[2], logits.shape[3], dtype=bool)[None, None]
        logits = jnp.where(seen, logits, least)
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    return jnp.einsum("bhml,bhlw->bhmw", weights, value).transpose(0, 2, 1, 3)


def _by_jax(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    causal: bool,
) -> jax.Array:
    """For accelerators: XLA's fusions, or cuDNN's kernel where it takes the shapes."""
    length, fused = query.shape[1], _cudnn_can(query)
    if fused:
        query, key, value, mask = _even(query, key, value, mask)
    if mask is not None:  # cuDNN wants it for every query
        shape = (len(mask), 1, query.shape[1], mask.shape[1])
        mask = jnp.broadcast_to(mask[:, None, None, :], shape)
    # JAX mixes half precision and float32 inside, which a caller's strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        out = jax.nn.dot_product_attention(
            query,
            key,
            value,
            mask=mask,
            is_causal=causal,
            implementation="cudnn" if fused else "xla",
        )
    return out[:, :length]


def _cudnn_can(query: jax.Array) -> bool:
    """What cuDNN's flash attention takes, once lengths are even."""
    width = query.shape[-1]
    half = query.dtype in (jnp.bfloat16, jnp.float16)
    return half and width % 8 == 0 and width <= 128 and _fuses()


def _even(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Lengths as cuDNN's gradient wants them, even: a token more, which nothing sees."""
    odd = [x.shape[1] % 2 for x in (query, key)]
    if odd[1]:
        mask = jnp.ones(key.shape[:2], jnp.bool_) if mask is None else mask
        mask = jnp.pad(mask, ((0, 0), (0, 1)))
    query, key, value = (
        jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0)))
        for x, more in zip((query, key, value), (odd[0], odd[1], odd[1]), strict=True)
    )
    return query, key, value, mask


def _fuses() -> bool:
    """Whether programs run, unless they are told otherwise, on NVIDIA GPUs from Ampere on."""
    if jax.default_backend() != "gpu":
        return False
    device = jax.local_devices()[0]
    cuda = "cuda" in device.client.platform_version
    return cuda and float(device.compute_capability) >= 8.0
