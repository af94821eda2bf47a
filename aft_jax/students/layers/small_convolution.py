"""A convolution of few channels that is fast on a CPU, alone and side by side under `vmap`.

XLA's own convolution on a CPU spends most of a small student's step in the gradient of the kernel:
of the demo's second layer, 1.7 ms against 0.1 as a matrix product. And under `vmap` over kernels it
makes one grouped convolution of many students, twice as slow again. So there it is one matrix
product of all windows; elsewhere it is XLA's.
"""

import functools

import jax
import jax.numpy as jnp

from aft_jax.students.layers.precision import widened


def convolve_small(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """y[i, j, d] = sum_{m, n, c} x[i s + m - p, j s + n - q, c] kernel[m, n, c, d].

    Zeros around the image as TensorFlow's SAME has them: ceil(size / s) windows, the odd zero last.

    Args:
        x: [b, h, w, c].
        kernel: [k, k, c, d], in the dtype of x.
        stride: s.

    Returns:
        [b, h', w', d] in the dtype of x.
    """
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_by_patches, stride=stride),
        default=functools.partial(_native, stride=stride),
    )


def _native(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    strides = (stride, stride)
    return jax.lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=numbers)


def _by_patches(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """One matrix product of all windows."""
    size = len(kernel)
    rows, columns = (-(-n // stride) for n in x.shape[1:3])
    high, wide = (
        max((count - 1) * stride + size - n, 0)
        for count, n in zip((rows, columns), x.shape[1:3], strict=True)
    )
    pads = ((0, 0), (high // 2, high - high // 2), (wide // 2, wide - wide // 2), (0, 0))
    x = jnp.pad(widened(x), pads)  # the gradient of a pixel is a sum over windows, in float32
    windows = [
        x[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
        for i in range(size)
        for j in range(size)
    ]
    patches = jnp.concatenate(windows, axis=-1).astype(kernel.dtype)
    return patches @ kernel.reshape(-1, kernel.shape[-1])
