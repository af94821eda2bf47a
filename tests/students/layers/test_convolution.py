"""Convolution layers: values and gradients against torch, and what each platform is given."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from aft_jax.students.layers import convolve
from aft_jax.students.layers.convolution import Convolution, Depthwise, Patches, Pointwise

CASES = {  # module, input [b, h, w, c], torch's (stride, padding, groups)
    "3x3": (Convolution(6, 3, padding=1, use_bias=True), (2, 9, 7, 4), (1, 1, 1)),
    "3x3, strided": (Convolution(6, 3, stride=2, padding=1), (2, 9, 8, 4), (2, 1, 1)),
    "3x3, no padding": (Convolution(6, 3, stride=2), (2, 8, 9, 4), (2, 0, 1)),
    "1x1, strided": (Convolution(6, 1, stride=2), (2, 9, 8, 4), (2, 0, 1)),
    "5x5": (Convolution(5, 5, padding=2), (2, 6, 7, 3), (1, 2, 1)),
    "stem": (Convolution(8, 7, stride=2, padding=3), (2, 16, 15, 3), (2, 3, 1)),
    "groups": (Convolution(6, 3, stride=2, padding=1, groups=2), (2, 9, 8, 4), (2, 1, 2)),
    "pointwise": (Pointwise(5, use_bias=True), (2, 4, 5, 3), (1, 0, 1)),
    "pointwise, strided": (Pointwise(5, stride=2), (2, 7, 6, 3), (2, 0, 1)),
    "depthwise": (Depthwise(3, padding=1, use_bias=True), (2, 7, 6, 4), (1, 1, 4)),
    "depthwise, strided": (Depthwise(5, stride=2, padding=2), (2, 9, 8, 4), (2, 2, 4)),
    "depthwise, even": (Depthwise(3, stride=2, padding=1), (2, 8, 9, 4), (2, 1, 4)),
    "depthwise, wide padding": (Depthwise(3, padding=3), (2, 5, 6, 4), (1, 3, 4)),
    "patches": (Patches(5, 4), (2, 8, 12, 3), (4, 0, 1)),
}


def _problem(name, dtype=jnp.float32):
    """A module, its parameters, an input, and a cotangent of its output."""
    module, shape, _ = CASES[name]
    module = module.clone(dtype=dtype)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    params = module.init(jax.random.key(0), x)["params"]
    if "bias" in params:
        params["bias"] = jnp.asarray(rng.standard_normal(params["bias"].shape), jnp.float32)
    y = jax.eval_shape(module.apply, {"params": params}, x)
    return module, params, x, jnp.asarray(rng.standard_normal(y.shape), jnp.float32)


def _backward(module, params, x, dy):
    """Gradients of <dy, y> with respect to the parameters and the input, and y."""

    def loss(params, x):
        y = module.apply({"params": params}, x).astype(jnp.float32)
        return jnp.sum(y * dy), y

    return jax.grad(loss, (0, 1), has_aux=True)(params, x)


def _torch(name, params, x, dy):
    """The same by torch, in float64."""
    _, _, (stride, padding, groups) = CASES[name]
    kernel = np.asarray(params["kernel"], np.float64)
    hwio = kernel
    if kernel.ndim == 2:
        hwio = kernel[None, None]
    if kernel.ndim == 3:
        hwio = kernel[:, :, None]
    leaves = [np.asarray(x, np.float64).transpose(0, 3, 1, 2), hwio.transpose(3, 2, 0, 1)]
    if "bias" in params:
        leaves.append(np.asarray(params["bias"], np.float64))
    leaves = [torch.tensor(leaf, requires_grad=True) for leaf in leaves]
    y = torch.nn.functional.conv2d(*leaves, stride=stride, padding=padding, groups=groups)
    y = y.permute(0, 2, 3, 1)
    gradients = torch.autograd.grad(y, leaves, torch.tensor(np.asarray(dy)).reshape(y.shape))
    dx, dkernel, *dbias = (gradient.numpy() for gradient in gradients)
    dparams = {"kernel": dkernel.transpose(2, 3, 1, 0).reshape(kernel.shape)}
    if dbias:
        dparams["bias"] = dbias[0]
    return (dparams, dx.transpose(0, 2, 3, 1)), y.detach().numpy().reshape(dy.shape)


def _assert_close(actual, expected, tolerance):
    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())

    jax.tree.map(check, actual, expected)


@pytest.fixture(params=[None, 1], ids=["one block", "rows"])
def blocks(request, monkeypatch):
    """Rows taken all together, or one at a time."""
    if request.param:
        monkeypatch.setattr(convolve, "_rows_at_a_time", lambda *_: request.param)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_torchs(name):
    module, params, x, dy = _problem(name)
    actual = jax.jit(functools.partial(_backward, module))(params, x, dy)
    _assert_close(actual, _torch(name, params, x, dy), 1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves(actual)} == {jnp.dtype(jnp.float32)}


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("name", CASES)
def test_bfloat16_is_close(name):
    module, params, x, dy = _problem(name, jnp.bfloat16)
    assert module.apply({"params": params}, x).dtype == jnp.bfloat16
    actual = jax.jit(functools.partial(_backward, module))(params, x, dy)
    _assert_close(actual, _torch(name, params, x, dy), 3e-2)


@pytest.mark.parametrize("layer", [Convolution, Depthwise])
@pytest.mark.parametrize(("size", "stride"), [(1, 2), (2, 1), (3, 2), (3, 3), (5, 2), (7, 1)])
def test_same_padding_and_its_gradients_are_xlas(layer, size, stride):
    options = {"kernel_size": size, "stride": stride, "padding": "same"}
    module = layer(features=5, **options) if layer is Convolution else layer(**options)
    x = jax.random.normal(jax.random.key(1), (2, 9, 8, 3))
    params = module.init(jax.random.key(0), x)["params"]

    def expected(params, x):
        kernel = params["kernel"]
        return jax.lax.conv_general_dilated(
            x,
            kernel if layer is Convolution else kernel[:, :, None],
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=1 if layer is Convolution else 3,
        )

    y, back = jax.vjp(lambda params, x: module.apply({"params": params}, x), params, x)
    other, other_back = jax.vjp(expected, params, x)
    dy = jax.random.normal(jax.random.key(2), other.shape)
    _assert_close((y, back(dy)), (other, other_back(dy)), 1e-5)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("name", ["stem", "3x3", "pointwise", "depthwise, strided", "patches"])
def test_eight_devices_give_the_gradients_of_one(name):
    module, params, x, dy = _problem(name)
    x, dy = jnp.concatenate([x, 2 * x, -x, x + 1]), jnp.concatenate([dy] * 4)
    expected = jax.jit(functools.partial(_backward, module))(params, x, dy)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    whole, parts = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    step = jax.jit(functools.partial(_backward, module), out_shardings=((whole, parts), parts))
    actual = step(jax.device_put(params, whole), *jax.device_put((x, dy), parts))
    _assert_close(actual, expected, 1e-5)
    text = step.lower(params, *jax.device_put((x, dy), parts)).compile().as_text()
    assert "all-gather" not in str(text), "images of other devices were fetched"


@pytest.mark.parametrize("name", ["stem", "depthwise, strided"])
def test_scan_remat_and_vmap_change_nothing(name):
    module, params, x, dy = _problem(name)
    (dparams, dx), _ = _backward(module, params, x, dy)

    @jax.remat
    def loss(params, x, dy):
        return jnp.sum(module.apply({"params": params}, x) * dy)

    def scanned(params):
        def add(total, pair):
            return total + loss(params, *pair), None

        return jax.lax.scan(add, jnp.zeros(()), (x[:, None], dy[:, None]))[0]

    _assert_close(jax.grad(scanned)(params), dparams, 1e-5)
    each = jax.vmap(jax.grad(loss, (0, 1)), (None, 0, 0))(params, x[:, None], dy[:, None])
    _assert_close(jax.tree.map(lambda g: g.sum(0), each[0]), dparams, 1e-5)
    _assert_close(each[1][:, 0], dx, 1e-5)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("name", ["stem", "3x3", "depthwise, strided"])
def test_accelerators_get_convolutions_and_their_derivatives_alone(name, platform):
    text = _traced(name).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 3
    assert not any(f"stablehlo.{op}" in text for op in ("while", "pad", "concatenate", "dot"))
    assert "slice" not in text


def test_a_cpu_gets_products_and_sums_where_convolutions_are_slow():
    dense, depthwise = _traced("stem").lower(), _traced("depthwise, strided").lower()
    assert dense.as_text().count("stablehlo.convolution") == 2
    assert "stablehlo.dot_general" in dense.as_text()
    assert "stablehlo.convolution" not in depthwise.as_text()
    for lowered in (dense, depthwise):
        assert "conditional(" not in str(lowered.compile().as_text()), "the platform is looked up"


def _traced(name):
    module, params, x, dy = _problem(name)
    return jax.jit(functools.partial(_backward, module)).trace(params, x, dy)


def test_a_second_call_compiles_nothing():
    module, params, x, dy = _problem("depthwise, strided")
    step = jax.jit(functools.partial(_backward, module))
    step(params, x, dy)
    step(params, x + 1, dy)
    counter: Any = step
    assert counter._cache_size() == 1  # the jitted function's own counter
