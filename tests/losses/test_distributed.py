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

DEVICES = 8
CASES = {
    "linear": (16, {}),
    "moment form": (64, {}),  # 64 rows against 19 dimensions
    "rbf of a product": (16, {"kernel": "rbf", "combine": "product"}),
    "student of two factors": (16, {"factors": True}),
    "both sides products": (16, {"factors": True, "kernel": "rbf", "combine": "product"}),
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


def plain(params, data, **options):
    return jax.jit(jax.value_and_grad(functools.partial(loss, **options)))(params, data)


def over_mesh(params, data, axis_type, **options):
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(axis_type,))
    data = jax.device_put(data, NamedSharding(mesh, P("data")))
    params = jax.device_put(params, NamedSharding(mesh, P()))
    with jax.set_mesh(mesh):
        return plain(params, data, **options)


def mapped(params, data, check_vma=True, **options):
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
    function = functools.partial(loss, axis_name="data", **options)
    sharded = jax.shard_map(
        function, mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), check_vma=check_vma
    )
    return jax.jit(jax.value_and_grad(sharded))(params, data)


def mapped_inside(params, data, **options):
    """The gradient is taken per device; `shard_map` itself sums those of replicated parameters."""
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
    function = jax.value_and_grad(functools.partial(loss, axis_name="data", **options))
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=(P(), P("data")), out_specs=P()))(
        params, data
    )


def pmapped(params, data, **options):
    """The gradient is taken per device and averaged, as data-parallel code bases do."""

    def step(params, data):
        function = functools.partial(loss, axis_name="data", **options)
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
    return plain(*problem(batch), **options)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", WAYS)
def test_eight_devices_equal_one(way, case):
    batch, options = CASES[case]
    expected = on_one_device(case)
    actual = WAYS[way](*problem(batch), **options)
    for want, got in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
        scale = np.max(np.abs(want))
        np.testing.assert_allclose(got, want, rtol=0, atol=min(1e-6, 2e-6 * scale))
