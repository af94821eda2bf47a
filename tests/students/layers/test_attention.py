"""Attention: its definition, its mask, and when the fused kernel of a GPU is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.students.layers import attention
from aft_jax.students.layers.attention import attend


def inputs(length=6, heads=2, width=8, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    shape = (3, length, heads, width)
    return [jnp.asarray(rng.normal(size=shape), dtype) for _ in range(3)]


def reference(query, key, value, allowed):
    """softmax(Q K^T / sqrt(width)) V in float64; `allowed` [b, m, l] keys of each query."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    logits = np.einsum("bmhw,blhw->bhml", query, key) / np.sqrt(query.shape[-1])
    logits = np.where(allowed[:, None], logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhml,blhw->bmhw", weights, value)


MASK = np.arange(6)[None] < np.array([6, 4, 1])[:, None]


def test_the_definition():
    arrays = inputs()
    everything = np.ones((3, 6, 6), bool)
    np.testing.assert_allclose(
        attend(*arrays), reference(*arrays, everything), rtol=1e-5, atol=1e-6
    )


def test_masked_keys_are_not_seen():
    arrays = inputs()
    expected = reference(*arrays, np.broadcast_to(MASK[:, None], (3, 6, 6)))
    np.testing.assert_allclose(attend(*arrays, jnp.asarray(MASK)), expected, rtol=1e-5, atol=1e-6)


def test_causal_queries_see_themselves_and_what_came_before():
    arrays = inputs()
    expected = reference(*arrays, np.broadcast_to(np.tri(6, dtype=bool), (3, 6, 6)))
    np.testing.assert_allclose(attend(*arrays, causal=True), expected, rtol=1e-5, atol=1e-6)


def test_a_text_without_tokens_gives_finite_values_and_gradients():
    nothing = jnp.zeros((3, 6), bool)

    def loss(arrays):
        return jnp.sum(jnp.square(attend(*arrays, nothing)))

    value, gradients = jax.value_and_grad(loss)(inputs())
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_the_softmax_is_in_float32_whatever_comes_in():
    lowered = jax.jit(attend).lower(*inputs(dtype=jnp.bfloat16)).as_text()
    exponentials = [line for line in lowered.splitlines() if "stablehlo.exponential" in line]
    assert exponentials
    assert all("xf32>" in line for line in exponentials)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """What `attend` would ask for on an NVIDIA GPU; it computes as ever."""
    asked = []
    plain = jax.nn.dot_product_attention

    def record(query, key, value, mask, implementation, **options):
        asked.append(implementation)
        # cuDNN refuses a mask that is to be broadcast over the queries.
        assert mask is None or mask.shape == (3, 1, query.shape[1], key.shape[1])
        return plain(query, key, value, mask=mask, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", record)
    monkeypatch.setattr(attention, "_on_cuda", lambda: True)
    return asked


@pytest.mark.parametrize(
    ("change", "mask", "expected"),
    [
        ({"dtype": jnp.bfloat16}, None, "cudnn"),
        ({"dtype": jnp.float16}, None, "cudnn"),
        ({"dtype": jnp.float32}, None, "xla"),
        ({"dtype": jnp.bfloat16, "width": 12}, None, "xla"),
        ({"dtype": jnp.bfloat16, "width": 136}, None, "xla"),
        ({"dtype": jnp.bfloat16, "length": 7}, None, "cudnn"),
        ({"dtype": jnp.bfloat16}, MASK, "cudnn"),
        ({"dtype": jnp.bfloat16, "length": 7}, np.ones((3, 7), bool), "xla"),
    ],
)
def test_the_fused_kernel_is_asked_for_where_it_can(on_a_gpu, change, mask, expected):
    attend(*inputs(**change), None if mask is None else jnp.asarray(mask))
    assert on_a_gpu == [expected]


def test_nothing_is_fused_on_a_cpu():
    assert not attention._on_cuda()
