"""Convolutions over [b, h, w, c]; parameters in float32, computed in the dtype asked for."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.convolve import Pads, convolve, convolve_depthwise
from aft_jax.students.layers.precision import plus

INIT = nn.initializers.he_normal()
"""Of every kernel: variance 2 / (k k c / groups)."""

Padding = int | Literal["same"]
"""Zeros on each side as in torch, or TensorFlow's SAME: ceil(size / stride) windows, the odd zero
last."""


class Convolution(nn.Module):
    """y[i, j, o] = sum_{m, n, c} x[i s + m - p, j s + n - p, c] kernel[m, n, c, o] + bias[o].

    Attributes:
        features: channels that come out.
        kernel_size: k, the side of the window.
        stride: s.
        padding: p, see `Padding`.
        use_bias: whether there is one.
        groups: output channels see only the input channels of their group.
        dtype: of the products.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: Padding = 0
    use_bias: bool = False
    groups: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h', w', features]."""
        size = self.kernel_size
        shape = (size, size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", INIT, shape).astype(self.dtype)
        pads = _pads(x, size, self.stride, self.padding)
        y = convolve(x.astype(self.dtype), kernel, self.stride, pads, self.groups)
        return _with_bias(self, y)


class Pointwise(nn.Module):
    """A 1x1 convolution as a matrix product: y[i, j] = x[i s, j s] kernel + bias.

    Attributes:
        features: channels that come out.
        use_bias: whether there is one.
        stride: s.
        dtype: of the products.
    """

    features: int
    use_bias: bool = False
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h / s, w / s, features], rounded up."""
        kernel = self.param("kernel", INIT, (x.shape[-1], self.features)).astype(self.dtype)
        x = x[:, :: self.stride, :: self.stride].astype(self.dtype)
        return _with_bias(self, jnp.einsum("bhwc,cd->bhwd", x, kernel))


class Depthwise(nn.Module):
    """y[i, j, c] = sum_{m, n} x[i s + m - p, j s + n - p, c] kernel[m, n, c] + bias[c].

    Attributes:
        kernel_size: k, the side of the window.
        stride: s.
        padding: p, see `Padding`.
        use_bias: whether there is one.
        dtype: of the products.
    """

    kernel_size: int
    stride: int = 1
    padding: Padding = 0
    use_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h', w', c]."""
        size, channels = self.kernel_size, x.shape[-1]
        kernel = self.param("kernel", INIT, (size, size, channels)).astype(self.dtype)
        pads = _pads(x, size, self.stride, self.padding)
        return _with_bias(self, convolve_depthwise(x.astype(self.dtype), kernel, self.stride, pads))


class Patches(nn.Module):
    """A linear map of each p x p patch, patches in row-major order.

    Attributes:
        features: width of a patch's embedding.
        patch: p.
        use_bias: whether there is one.
        dtype: of the products.
    """

    features: int
    patch: int
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, (h / p) (w / p), features]."""
        batch, height, width, channels = x.shape
        size = self.patch
        rows, columns = height // size, width // size
        kernel = self.param("kernel", INIT, (size, size, channels, self.features))
        x = x.astype(self.dtype).reshape(batch, rows, size, columns, size * channels)
        x = x.transpose(0, 1, 3, 2, 4).reshape(batch, rows * columns, size * size * channels)
        kernel = kernel.astype(self.dtype).reshape(-1, self.features)
        return _with_bias(self, jnp.einsum("blc,cd->bld", x, kernel))


def _with_bias(module: Any, y: jax.Array) -> jax.Array:
    """Adds the module's bias, if it has one."""
    if not module.use_bias:
        return y
    return plus(y, module.param("bias", nn.initializers.zeros, y.shape[-1:]))


def _pads(x: jax.Array, size: int, stride: int, padding: Padding) -> Pads:
    if padding != "same":
        return (padding, padding), (padding, padding)
    high, wide = (max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[1:3])
    return (high // 2, high - high // 2), (wide // 2, wide - wide // 2)
