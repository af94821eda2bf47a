"""Normalisation in float32, whatever dtype comes in and goes out."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + epsilon) * scale + bias over the last axis.

    Attributes:
        epsilon: added to the variance.
        dtype: of the result.
    """

    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., w] -> [..., w]."""
        shape = (1,) * (x.ndim - 1) + (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape[-1:]).reshape(shape)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:]).reshape(shape)
        x = x.astype(jnp.float32)
        # The mean is taken off before squaring: E[x^2] - E[x]^2 cancels where it is large.
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        return (x * jax.lax.rsqrt(variance + self.epsilon) * scale + bias).astype(self.dtype)


class BatchNorm(nn.Module):
    """(x - mean) / sqrt(var + epsilon) * scale + bias for each channel, as torch's.

    In training, mean and variance are those of the batch (of the global one under `jit`), and the
    collection "batch_stats" moves towards them by a tenth, to the variance with n - 1 below; at
    inference they are the collection's.

    Attributes:
        epsilon: added to the variance.
        dtype: of the result.
    """

    epsilon: float
    dtype: Any

    MOMENTUM = 0.1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[b, ..., c] -> [b, ..., c]."""
        width = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, width)
        bias = self.param("bias", nn.initializers.zeros, width)
        means = self.variable("batch_stats", "mean", jnp.zeros, width)
        variances = self.variable("batch_stats", "var", jnp.ones, width)
        shape = (1,) * (x.ndim - 1) + width
        x = x.astype(jnp.float32)
        if not train:
            mean, variance = means.value, variances.value
        else:
            axes = tuple(range(x.ndim - 1))
            mean = jnp.mean(x, axes)
            variance = jnp.mean(jnp.square(x - mean.reshape(shape)), axes)
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                unbiased = variance * (count / max(count - 1, 1))
                means.value += self.MOMENTUM * (mean - means.value)
                variances.value += self.MOMENTUM * (unbiased - variances.value)
        factor = jax.lax.rsqrt(variance + self.epsilon) * scale
        return ((x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)).astype(
            self.dtype
        )
