"""Sums of parameters and activations in half precision: what is rounded, and what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.students.layers.attention import attend
from aft_jax.students.layers.convolve import convolve_depthwise
from aft_jax.students.layers.dense import Dense
from aft_jax.students.layers.precision import plus, times, widened
from aft_jax.students.layers.small_convolution import convolve_small
from aft_jax.students.layers.transformer import ACTIVATIONS

HALF = [jnp.bfloat16, jnp.float16]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("combine", [plus, times])
def test_the_gradient_of_a_parameter_is_summed_in_float32(combine, dtype):
    """In bfloat16 a sum of ones stops growing at 256 times the number of partial sums."""
    ones = jnp.ones((10_000, 2), dtype)

    @jax.jit
    @jax.grad
    def gradient(parameter):
        return jnp.sum(combine(ones, parameter).astype(jnp.float32))

    np.testing.assert_array_equal(gradient(jnp.ones(2)), 10_000)


def test_so_is_that_of_a_bias():
    layer = Dense(2, jnp.bfloat16)
    x = jnp.ones((100, 100, 3))
    params = layer.init(jax.random.key(0), x)

    def total(params):
        y = jnp.asarray(layer.apply(params, x))
        return jnp.sum(y.astype(jnp.float32))

    bias = jax.jit(jax.grad(total))(params)["params"]["bias"]
    np.testing.assert_array_equal(bias, 10_000)


@pytest.mark.parametrize("dtype", HALF)
def test_the_sum_is_rounded_once(dtype):
    x = jnp.array([[1.0, 256.0]], dtype)
    exact = np.asarray(x, np.float64) + np.array([[2**-12, 3.0]])
    result = plus(x, jnp.array([2**-12, 3.0]))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, exact.astype(np.float32).astype(dtype))


def test_what_is_wide_stays_as_it_is():
    for dtype in (jnp.float32, jnp.int32):
        assert widened(jnp.ones(2, dtype)).dtype == dtype
    assert widened(jnp.ones(2, jnp.float16)).dtype == jnp.float32


def test_attention_logits_may_leave_the_range_of_float16():
    """64 products of 40 x 40 are 102,400; the key with them has all the weight."""
    query = jnp.full((1, 1, 1, 64), 40, jnp.float16)
    key = jnp.stack([query[0, 0], 0 * query[0, 0]])[None]
    value = jnp.stack([jnp.full((1, 64), 3, jnp.float16), jnp.ones((1, 64), jnp.float16)])[None]

    def total(query):
        return jnp.sum(attend(query, key, value).astype(jnp.float32))

    value_and_gradient = jax.jit(jax.value_and_grad(total))(query)
    assert value_and_gradient[0] == 3 * 64
    np.testing.assert_array_equal(value_and_gradient[1], 0)


@pytest.mark.parametrize("dtype", HALF)
def test_a_depthwise_convolution_is_rounded_once(dtype):
    """And so is its gradient by the image: sums of 49 products, in float32."""
    rng = np.random.default_rng(0)
    x, kernel, dy = (
        jnp.asarray(rng.normal(size=shape), dtype)
        for shape in ((2, 9, 9, 3), (7, 7, 3), (2, 9, 9, 3))
    )

    def both(x, kernel, dy):
        value, pull = jax.vjp(lambda x: convolve_depthwise(x, kernel, 1, ((3, 3), (3, 3))), x)
        return value, *pull(dy)

    wide = [array.astype(jnp.float32) for array in (x, kernel, dy)]
    for actual, exact in zip(jax.jit(both)(x, kernel, dy), jax.jit(both)(*wide), strict=True):
        np.testing.assert_array_equal(actual, exact.astype(dtype))


def test_the_gradient_by_a_small_image_is_summed_in_float32():
    """Of nine equal parts in bfloat16, each a product: in bfloat16 the sum would be 2,304."""
    x, kernel = jnp.zeros((1, 3, 3, 1), jnp.bfloat16), jnp.full((3, 3, 1, 1), 257.0, jnp.bfloat16)
    value, pull = jax.vjp(lambda x: convolve_small(x, kernel, 1), x)
    assert float(kernel[0, 0, 0, 0]) == 256
    (dx,) = pull(jnp.full(value.shape, 1.0 + 2**-7, jnp.bfloat16))
    assert float(dx[0, 1, 1, 0]) == float(jnp.asarray(9 * 258.0, jnp.bfloat16))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_large_numbers_are_finite_in_float16(name):
    x = jnp.array([[-6e4, -300.0, -50.0, 1.0], [50.0, 300.0, 1.0, 1.0]], jnp.float16)

    def total(x):
        return jnp.sum(ACTIVATIONS[name](x).astype(jnp.float32))

    value, gradient = jax.jit(jax.value_and_grad(total))(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
