"""The loss and all its gradients do not depend on how the batch is spread: five ways, one answer.

A linear student F = X W with replicated weights stands for any network, so that gradients are those
a train step uses: of the weights and of the scales.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from aft_jax import aft_loss
from aft_jax.losses.predictions import logit_distillation_loss
from tests.losses.baselines import CASES as BASELINES
from tests.losses.blocks import pairs_in_blocks

DEVICES = 8
CASES = {
    "linear": (16, {}),
    "moment form": (64, {}),  # 64 rows against 19 dimensions
    "rbf of a product": (16, {"kernel": "rbf", "combine": "product"}),
    "student of two factors": (16, {"factors": True}),
    "both sides products": (16, {"factors": True, "kernel": "rbf", "combine": "product"}),
    "rbf in blocks": (32, {"kernel": "rbf"}),
    "products in blocks": (32, {"factors": True, "kernel": "rbf", "combine": "product"}),
    "blocks that no device shares": (40, {"kernel": "rbf", "combine": "product"}),
}


def problem(batch):
    rng = np.random.default_rng(0)
    params = {
        "weights": rng.normal(size=(7, 6)),
        "scales": {"a": rng.normal(size=4), "b": rng.normal(size=9)},
    }
    data = {
        "inputs": rng.normal(size=(batch, 7)) + 0.4,
        "teachers": {"a": rng.normal(size=(batch, 4)) + 0.5, "b": rng.normal(size=(batch, 9))},
        "mask": (rng.random(batch) < 0.8).astype(np.float64),
    }
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (params, data))


def loss(params, data, factors=False, **options):
    student = jnp.matmul(data["inputs"], params["weights"], precision="highest")
    if factors:
        student = {"image": student[:, :2], "text": student[:, 2:]}
    return aft_loss(params["scales"], student, data["teachers"], mask=data["mask"], **options)


def plain(loss, params, data):
    return jax.jit(jax.value_and_grad(loss))(params, data)


def over_mesh(loss, params, data, axis_type):
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(axis_type,))
    data = jax.device_put(data, NamedSharding(mesh, P("data")))
    params = jax.device_put(params, NamedSharding(mesh, P()))
    with jax.set_mesh(mesh):
        return plain(loss, params, data)


def mapped(loss, params, data, check_vma=True):
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
    function = functools.partial(loss, axis_name="data")
    sharded = jax.shard_map(
        function, mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), check_vma=check_vma
    )
    return jax.jit(jax.value_and_grad(sharded))(params, data)


def mapped_inside(loss, params, data):
    """The gradient is taken per device; `shard_map` itself sums those of replicated parameters."""
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
    function = jax.value_and_grad(functools.partial(loss, axis_name="data"))
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=(P(), P("data")), out_specs=P()))(
        params, data
    )


def pmapped(loss, params, data):
    """The gradient is taken per device and averaged, as data-parallel code bases do."""

    def step(params, data):
        function = functools.partial(loss, axis_name="data")
        value, grads = jax.value_and_grad(function)(params, data)
        return value, jax.lax.pmean(grads, "data")

    split = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), data)
    results = jax.pmap(step, axis_name="data", in_axes=(None, 0))(params, split)
    return jax.tree.map(lambda x: x[0], results)


WAYS = {
    "auto": functools.partial(over_mesh, axis_type=AxisType.Auto),
    "explicit": functools.partial(over_mesh, axis_type=AxisType.Explicit),
    "shard_map": mapped,
    "shard_map without vma": functools.partial(mapped, check_vma=False),
    "grad inside shard_map": mapped_inside,
    "pmap": pmapped,
}


@functools.cache
def on_one_device(case):
    batch, options = CASES[case]
    return plain(functools.partial(loss, **options), *problem(batch))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", WAYS)
def test_eight_devices_equal_one(way, case):
    batch, options = CASES[case]
    expected = on_one_device(case)
    blocks = "blocks" in case
    with pairs_in_blocks(rows=8 if batch == 32 else 5, many=0 if blocks else batch**2):
        actual = WAYS[way](functools.partial(loss, **options), *problem(batch))
    # Blocks are summed in another order than the one device's kernels.
    assert_equal(actual, expected, relative=4e-6 if blocks else 2e-6)


def assert_equal(actual, expected, relative=2e-6):
    for want, got in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
        scale = np.max(np.abs(want))
        np.testing.assert_allclose(got, want, rtol=0, atol=min(1e-6, relative * scale))


CENTRED = ("kkd", "aft_no_kernel")  # cancels the bias: its gradient would be rounding error


def baseline_problem(name, batch):
    """A baseline's params beside the linear student's; data."""
    rng = np.random.default_rng(1)
    _, data = problem(batch)
    method = {} if name == "kd_logits" else BASELINES[name].params(rng, 6, {"a": 4, "b": 9})
    if name in CENTRED:
        method.pop("bias")
    params = {"weights": rng.normal(size=(7, 6)), "method": method}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params), data


def baseline_loss(params, data, name, factors, axis_name=None):
    student = jnp.matmul(data["inputs"], params["weights"], precision="highest")
    options = {"mask": data["mask"], "axis_name": axis_name}
    if name == "kd_logits":
        return logit_distillation_loss(student, data["teachers"]["b"][:, :6], **options)
    if factors:
        student = {"image": student[:, :2], "text": student[:, 2:5]}
    constant = {"bias": jnp.ones(6)} if name in CENTRED else {}
    return BASELINES[name].loss(params["method"] | constant, student, data["teachers"], **options)


BASELINE_RUNS = [
    *((name, 16, False) for name in (*BASELINES, "kd_logits")),
    ("cka", 64, False),  # 64 rows against 19 dimensions: by moments
    *((name, 16, True) for name in ("rkd", "spkd", "cka")),
]


@functools.cache
def baseline_on_one_device(name, batch, factors):
    loss = functools.partial(baseline_loss, name=name, factors=factors)
    return plain(loss, *baseline_problem(name, batch))


@pytest.mark.parametrize(("name", "batch", "factors"), BASELINE_RUNS)
@pytest.mark.parametrize("way", WAYS)
def test_eight_devices_equal_one_for_the_baselines(way, name, batch, factors):
    expected = baseline_on_one_device(name, batch, factors)
    loss = functools.partial(baseline_loss, name=name, factors=factors)
    # CKA's gradient is what is left of two terms of its size or more.
    relative = 5e-6 if name == "cka" else 2e-6
    assert_equal(WAYS[way](loss, *baseline_problem(name, batch)), expected, relative)


# Widths that 2 divides, for a student and teachers that are split over a second axis.
SPREADS = {
    "a student split in width": (P("data", "model"), P("data"), P("data"), P()),
    "all split in width": (P("data", "model"), P("data", "model"), P("data", "model"), P("model")),
    "in width alone": (P(None, "model"), P(None, "model"), P(None, "model"), P()),
    "one teacher whole everywhere": (P("data"), P("data"), P(), P()),
    "the student whole everywhere": (P(), P("data"), P("data"), P()),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [{}, {"combine": "product", "kernel": "rbf"}])
@pytest.mark.parametrize("spread", SPREADS)
def test_explicit_arrays_may_be_spread_differently(spread, options, masked):
    rng = np.random.default_rng(2)
    arrays = [jnp.asarray(rng.normal(size=(16, width)), jnp.float32) for width in (8, 4, 6)]
    scales = {"a": jnp.zeros(4), "b": jnp.zeros(6)}
    mask = jnp.asarray(rng.random(16) < 0.8) if masked else None

    def of(scales, student, a, b, mask):
        return aft_loss(scales, student, {"a": a, "b": b}, mask=mask, **options)

    function = jax.jit(jax.value_and_grad(of, argnums=(0, 1)))
    expected = function(scales, *arrays, mask)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    *specs, of_scales = SPREADS[spread]
    with jax.set_mesh(mesh):
        placed = [jax.device_put(x, spec) for x, spec in zip(arrays, specs, strict=True)]
        actual = function(jax.device_put(scales, of_scales), *placed, mask)
    assert jax.typeof(actual[1][1]).sharding.spec == jax.typeof(placed[0]).sharding.spec
    assert_equal(actual, expected)
