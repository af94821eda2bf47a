"""The convolution of small students: alone, and side by side under vmap."""

import operator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from aft_jax.students.layers.small_convolution import convolve_small

SHAPES = [((2, 8, 8, 1), (3, 3, 1, 4), 1), ((3, 7, 6, 2), (3, 3, 2, 3), 2)]


def arrays(shape, kernel, count=None):
    rng = np.random.default_rng(0)
    lead = () if count is None else (count,)
    return jnp.asarray(rng.normal(size=lead + shape)), jnp.asarray(rng.normal(size=lead + kernel))


def by_hand(x, kernel, stride):
    """Window by window, zeros as SAME has them."""
    size = kernel.shape[0]
    counts = [-(-n // stride) for n in x.shape[1:3]]
    missing = [
        max((count - 1) * stride + size - n, 0)
        for count, n in zip(counts, x.shape[1:3], strict=True)
    ]
    pads = [(0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)]
    padded = np.pad(np.asarray(x), pads)
    out = np.zeros((len(x), *counts, kernel.shape[-1]))
    for i in range(counts[0]):
        for j in range(counts[1]):
            top, left = i * stride, j * stride
            window = padded[:, top : top + size, left : left + size]
            out[:, i, j] = np.einsum("bmnc,mncd->bd", window, np.asarray(kernel))
    return out


@pytest.mark.parametrize(("shape", "kernel", "stride"), SHAPES)
def test_the_value_window_by_window(x64, shape, kernel, stride):
    x, k = arrays(shape, kernel)
    np.testing.assert_allclose(convolve_small(x, k, stride), by_hand(x, k, stride), atol=1e-12)


@pytest.mark.parametrize(("shape", "kernel", "stride"), SHAPES)
def test_gradients_of_both_orders(x64, shape, kernel, stride):
    x, k = arrays(shape, kernel)

    def function(x, k):
        return convolve_small(jnp.asarray(x), jnp.asarray(k), stride)

    check_grads(function, (x, k), order=2, modes=["rev"])


@pytest.mark.parametrize(("shape", "kernel", "stride"), SHAPES)
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_side_by_side_is_one_after_another(x64, shape, kernel, stride, axes):
    """Values and gradients, whichever argument they share."""
    x, k = arrays(shape, kernel, 3)
    x, k = (value if axis == 0 else value[0] for value, axis in zip((x, k), axes, strict=True))

    def loss(x, k):
        return jnp.sum(jnp.sin(convolve_small(x, k, stride)))

    many = jax.vmap(jax.value_and_grad(loss, (0, 1)), axes)(x, k)
    for place in range(3):
        one = [
            value[place] if axis == 0 else value for value, axis in zip((x, k), axes, strict=True)
        ]
        alone = jax.value_and_grad(loss, (0, 1))(*one)
        picked = jax.tree.map(operator.itemgetter(place), many)
        for a, b in zip(jax.tree.leaves(picked), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_alone_it_is_the_convolution_of_flax():
    x, k = (array.astype(jnp.float32) for array in arrays(*SHAPES[0][:2]))
    layer: Any = nn.Conv(4, (3, 3), use_bias=False)

    def theirs(x, k):
        return jnp.sum(jnp.sin(layer.apply({"params": {"kernel": k}}, x)))

    def ours(x, k):
        return jnp.sum(jnp.sin(convolve_small(x, k, 1)))

    for a, b in zip(
        jax.tree.leaves(jax.value_and_grad(theirs, (0, 1))(x, k)),
        jax.tree.leaves(jax.value_and_grad(ours, (0, 1))(x, k)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
