"""Attention: its definition, its mask, and when the fused kernel of a GPU is asked for."""

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.students.layers import attention
from aft_jax.students.layers.attention import attend


def inputs(length=6, heads=2, width=8, dtype=jnp.float32) -> list[Any]:
    rng = np.random.default_rng(0)
    shape = (3, length, heads, width)
    return [jnp.asarray(rng.normal(size=shape), dtype) for _ in range(3)]


def reference(arrays: Any, allowed: Any) -> Any:
    """softmax(Q K^T / sqrt(width)) V in float64; `allowed` [b, m, l] keys of each query."""
    query, key, value = (np.asarray(x, np.float64) for x in arrays)
    logits = np.einsum("bmhw,blhw->bhml", query, key) / np.sqrt(query.shape[-1])
    logits = np.where(allowed[:, None], logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhml,blhw->bmhw", weights, value)


MASK = np.arange(6)[None] < np.array([6, 4, 1])[:, None]


WAY: Any = attention._by_jax
WAYS = pytest.mark.parametrize(
    "way", [attend, attention._by_products, attention._by_jax], ids=["attend", "cpu", "default"]
)


@WAYS
def test_the_definition(way):
    arrays = inputs()
    everything = np.ones((3, 6, 6), bool)
    expected = reference(arrays, everything)
    np.testing.assert_allclose(way(*arrays, causal=False), expected, rtol=1e-5, atol=1e-6)


@WAYS
def test_masked_keys_are_not_seen(way):
    arrays = inputs()
    expected = reference(arrays, np.broadcast_to(MASK[:, None], (3, 6, 6)))
    actual = way(*arrays, jnp.asarray(MASK), causal=False)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@WAYS
def test_causal_queries_see_themselves_and_what_came_before(way):
    arrays = inputs()
    expected = reference(arrays, np.broadcast_to(np.tri(6, dtype=bool), (3, 6, 6)))
    np.testing.assert_allclose(way(*arrays, causal=True), expected, rtol=1e-5, atol=1e-6)


@WAYS
def test_a_text_without_tokens_gives_finite_values_and_gradients(way):
    nothing = jnp.zeros((3, 6), bool)

    def loss(arrays):
        return jnp.sum(jnp.square(way(*arrays, nothing, causal=False)))

    value, gradients = jax.value_and_grad(loss)(inputs())
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_the_softmax_is_in_float32_whatever_comes_in(platform):
    traced = jax.jit(attend).trace(*inputs(dtype=jnp.bfloat16))
    lowered = traced.lower(lowering_platforms=(platform,)).as_text()
    exponentials = [line for line in lowered.splitlines() if "stablehlo.exponential" in line]
    assert exponentials
    assert all("xf32>" in line for line in exponentials)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """What is asked for on an NVIDIA GPU; it computes as ever."""
    asked = []
    plain: Any = jax.nn.dot_product_attention

    def record(query, key, value, mask, implementation, **options):
        asked.append(implementation)
        if implementation == "cudnn":  # what it takes when gradients are wanted
            assert query.shape[1] % 2 == key.shape[1] % 2 == 0
            assert mask is None or mask.shape == (3, 1, query.shape[1], key.shape[1])
        return plain(query, key, value, mask=mask, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", record)
    monkeypatch.setattr(attention, "_fuses", lambda: True)
    return asked


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"dtype": jnp.bfloat16}, "cudnn"),
        ({"dtype": jnp.float16}, "cudnn"),
        ({"dtype": jnp.float32}, "xla"),
        ({"dtype": jnp.bfloat16, "width": 12}, "xla"),
        ({"dtype": jnp.bfloat16, "width": 136}, "xla"),
        ({"dtype": jnp.bfloat16, "length": 7}, "cudnn"),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_the_fused_kernel_is_asked_for_where_it_can(on_a_gpu, change, expected, masked, causal):
    arrays = inputs(**change)
    length = arrays[0].shape[1]
    mask = np.arange(length)[None] < np.array([length, 4, 1])[:, None]
    actual: Any = WAY(*arrays, jnp.asarray(mask) if masked else None, causal=causal)
    assert on_a_gpu == [expected]
    allowed = np.broadcast_to(mask[:, None] if masked else True, (3, length, length))
    allowed = allowed & np.tri(length, dtype=bool) if causal else allowed
    np.testing.assert_allclose(
        np.asarray(actual, np.float64), reference(arrays, allowed), rtol=0.05, atol=0.05
    )


def test_each_platform_gets_its_own_way():
    traced = jax.jit(attend).trace(*inputs())
    programs = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "tpu")
    }
    assert "stablehlo.exponential" in programs["cpu"]
    assert programs["cpu"] != programs["tpu"]


def test_nothing_is_fused_on_a_cpu():
    assert not attention._fuses()


@pytest.mark.parametrize(
    ("platform", "capability", "fuses"),
    [("cuda 13000", "9.0", True), ("cuda 12090", "7.5", False), ("rocm 60000", "gfx942", False)],
)
def test_gpus_fuse_from_ampere_on(monkeypatch, platform, capability, fuses):
    client = types.SimpleNamespace(platform_version=platform)
    device = types.SimpleNamespace(client=client, compute_capability=capability)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert attention._fuses() is fuses


def test_in_float16_a_tpu_is_asked_for_no_product_that_it_lacks():
    traced = jax.jit(attend).trace(*inputs(dtype=jnp.float16))
    assert "lhs_precision_type = f16" not in traced.lower(lowering_platforms=("tpu",)).as_text()
    assert "lhs_precision_type = f16" in traced.lower(lowering_platforms=("cuda",)).as_text()
