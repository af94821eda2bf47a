"""Convolutions over [b, h, w, c] that are XLA's own on TPUs and GPUs, and not slow on a CPU.

On a CPU the gradient of a kernel, and everything about a depthwise convolution, are written as
matrix products and sums of shifted arrays. `platform_dependent` keeps one of the two when a program
is lowered, so that the other costs neither time nor compilation.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aft_jax.students.layers.precision import widened

Pads = tuple[tuple[int, int], tuple[int, int]]
"""Zeros before and after the rows, and before and after the columns."""

BLOCK_BYTES = 2**21
"""Of the shifted inputs that a CPU holds at a time, unless the kernel is larger.

More leave its cache: the kernel gradient of 56 x 56 x 64, 3 x 3, 8 images, takes 26 ms of CPU time
with 1 or 2 MiB, 31 with 8, 83 with all at once. A sum that is larger than the block costs more than
the block: 7 x 7 x 512 takes 19 ms in blocks of 2 MiB, 14 in one.
"""


def convolve(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, groups: int) -> jax.Array:
    """y[i, j, d] = sum_{m, n, c} x[i s + m - p, j s + n - q, c] kernel[m, n, c, d].

    Args:
        x: [b, h, w, c].
        kernel: [k, k, c / groups, d], in the dtype of x.
        stride: s.
        pads: their first entries are p and q.
        groups: an output channel sees only the input channels of its group.

    Returns:
        [b, h', w', d] in the dtype of x.
    """
    if groups == 1:
        return _dense(x, kernel, stride, pads)
    return _native(x, kernel, stride, pads, groups)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_depthwise(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """y[i, j, c] = sum_{m, n} x[i s + m - p, j s + n - q, c] kernel[m, n, c].

    On a CPU XLA's grouped convolution takes long, its gradients longer. CPU time in ms of value,
    input's and kernel's gradient, 8 images of 56 x 56 x 96, 5 x 5, stride 2: 25, 405 and 39 against
    3, 5 and 12 for shifted products.

    Args:
        x: [b, h, w, c].
        kernel: [k, k, c], in the dtype of x.
        stride: s.
        pads: their first entries are p and q.

    Returns:
        [b, h', w', c] in the dtype of x.
    """
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_shifted_products, stride=stride, pads=pads),
        default=functools.partial(_native_depthwise, stride=stride, pads=pads),
    )


def _depthwise_forward(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve_depthwise(x, kernel, stride, pads), (x, kernel)


def _depthwise_backward(
    stride: int, pads: Pads, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def native(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        (dx,) = jax.linear_transpose(lambda x: _native_depthwise(x, kernel, stride, pads), x)(dy)
        (dk,) = jax.linear_transpose(lambda k: _native_depthwise(x, k, stride, pads), kernel)(dy)
        return dx, dk

    def by_shifts(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = len(kernel)
        # The padding that makes a convolution of the spread dy as large as x.
        edges = [
            (size - 1 - low, n - 1 + low - stride * (m - 1), stride - 1)
            for n, m, (low, _) in zip(x.shape[1:3], dy.shape[1:3], pads, strict=True)
        ]
        spread = jax.lax.pad(dy, jnp.zeros((), dy.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
        dx = _shifted_products(spread, kernel[::-1, ::-1], 1, ((0, 0), (0, 0)))

        def sums(window: jax.Array, dy: jax.Array) -> jax.Array:
            parts = _shifts(window, dy.shape, size, stride)
            return jnp.stack([jnp.sum(part * dy, (0, 1, 2)) for part in parts])

        total = _over_rows(sums, x, dy, kernel, stride, pads)
        return dx, total.reshape(kernel.shape).astype(kernel.dtype)

    return jax.lax.platform_dependent(*saved, dy, cpu=by_shifts, default=native)


convolve_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _dense(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """A convolution whose kernel's gradient is a matrix product on a CPU.

    XLA writes that gradient as a convolution with the whole image for a window. CPU time in ms of
    it and of the product, 8 images: 224 x 224 x 3, 7 x 7, stride 2: 56, 38; 56 x 56 x 64: 48, 26;
    28 x 28 x 128: 47, 19; 14 x 14 x 256: 15, 15. The input's gradient needs no help.
    """
    return _native(x, kernel, stride, pads, 1)


def _dense_forward(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _dense(x, kernel, stride, pads), (x, kernel)


def _dense_backward(
    stride: int, pads: Pads, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    size = len(kernel)

    def product(window: jax.Array, dy: jax.Array) -> jax.Array:
        patches = jnp.concatenate(_shifts(window, dy.shape, size, stride), axis=-1)
        return jnp.einsum("bhwd,bhwc->dc", dy, patches)

    def by_products(x: jax.Array, dy: jax.Array) -> jax.Array:
        total = _over_rows(product, x, dy, kernel, stride, pads)
        return total.T.reshape(kernel.shape).astype(kernel.dtype)

    def native(x: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda k: _native(x, k, stride, pads, 1), kernel)(dy)[0]

    (dx,) = jax.linear_transpose(lambda x: _native(x, kernel, stride, pads, 1), x)(dy)
    return dx, jax.lax.platform_dependent(x, dy, cpu=by_products, default=native)


_dense.defvjp(_dense_forward, _dense_backward)


def _native(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, groups: int) -> jax.Array:
    """XLA's convolution of [b, h, w, c] with [k, k, c / groups, d]."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _native_depthwise(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """XLA's convolution of [b, h, w, c] with [k, k, c]."""
    return _native(x, kernel[:, :, None], stride, pads, x.shape[-1])


def _shifts(x: jax.Array, shape: tuple[int, ...], size: int, stride: int) -> list[jax.Array]:
    """The k k arrays [b, h', w', c] that the entries of the kernel are multiplied with."""
    height, width = (stride * (n - 1) + 1 for n in shape[1:3])
    return [
        x[:, down : down + height : stride, right : right + width : stride]
        for down in range(size)
        for right in range(size)
    ]


def _shifted_products(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """A depthwise convolution of [b, h, w, c] with [k, k, c] that XLA fuses into one loop.

    Summed in float32, as a product is.
    """
    dtype = x.dtype
    x, kernel = (widened(array) for array in (x, kernel))
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    size, channels = len(kernel), x.shape[-1]
    height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
    shape = (len(x), height, width, channels)
    rows = kernel.reshape(size * size, 1, 1, 1, channels)
    products = (
        part * jnp.broadcast_to(row, shape)
        for part, row in zip(_shifts(x, shape, size, stride), rows, strict=True)
    )
    return functools.reduce(jnp.add, products).astype(dtype)


def _over_rows(
    term: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    dy: jax.Array,
    kernel: jax.Array,
    stride: int,
    pads: Pads,
) -> jax.Array:
    """The sum of `term` over blocks of output rows and the input rows that their windows cover.

    Blocks of rows, not of images: the batch may be spread over devices. In float32, as the sum over
    many rows must be.

    Args:
        term: (rows of the padded x, rows of dy), in float32 -> its part of the sum.
        x: [b, h, w, c].
        dy: [b, h', w', d].
        kernel: [k, k, ...], whose gradient the sum is.
        stride: of the windows.
        pads: of x.
    """
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, size = _rows_at_a_time(dy, kernel, x.shape[-1]), len(kernel)
    covered = (rows - 1) * stride + size

    def part(first: jax.Array) -> jax.Array:
        window = jax.lax.dynamic_slice_in_dim(x, first * stride, covered, axis=1)
        block = jax.lax.dynamic_slice_in_dim(dy, first, rows, axis=1)
        return term(window.astype(jnp.float32), block.astype(jnp.float32))

    def add(total: jax.Array, first: jax.Array) -> tuple[jax.Array, None]:
        return total + part(first), None

    firsts = jnp.arange(0, dy.shape[1], rows, dtype=jnp.int32)
    return jax.lax.scan(add, part(firsts[0]), firsts[1:])[0]


def _rows_at_a_time(dy: jax.Array, kernel: jax.Array, channels: int) -> int:
    """A divisor of the number of rows, see `BLOCK_BYTES`."""
    batch, height, width, _ = dy.shape
    row = 4 * batch * width * len(kernel) ** 2 * channels
    fit = max(max(BLOCK_BYTES, 4 * kernel.size) // row, 1)
    return max(n for n in range(1, height + 1) if height % n == 0 and n <= fit)
