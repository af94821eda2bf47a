"""Loss scaling: what a step does with gradients that float16 cannot hold."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from aft_jax.training import loss_scale
from aft_jax.training.checkpoint import Checkpoints
from aft_jax.training.loss_scale import LossScale, adjusted, exhausted, guarded, scaled, unscaled
from aft_jax.training.state import TrainState, trainable


def scale_of(scale, good=0):
    return LossScale(jnp.float32(scale), jnp.int32(good))


def test_only_float16_is_scaled():
    assert loss_scale.init("float32") == loss_scale.init("bfloat16") == ()
    first = loss_scale.init("float16")
    assert isinstance(first, LossScale)
    assert (float(first.scale), int(first.good_steps)) == (32768.0, 0)
    assert (first.scale.dtype, first.good_steps.dtype) == (jnp.float32, jnp.int32)


@pytest.mark.parametrize(
    ("before", "finite", "after"),
    [
        ((32768, 0), True, (32768, 1)),
        ((32768, 1998), True, (32768, 1999)),
        ((32768, 1999), True, (65536, 0)),
        ((16777216, 1999), True, (16777216, 0)),
        ((32768, 7), False, (16384, 0)),
        ((32768, 1999), False, (16384, 0)),
        ((1, 0), False, (0.5, 0)),
    ],
)
def test_the_scale_halves_at_once_and_doubles_after_2000_steps(before, finite, after):
    scale, good = jax.jit(adjusted)(scale_of(*before), jnp.bool_(finite))
    assert (float(scale), int(good)) == after


def test_gradients_too_small_for_float16_survive():
    """d/dw of 1e-9 w is below its smallest number, 2^-24; times 2^15 it is not."""

    def gradient(scaling):
        def loss(w):
            return scaled(scaling, 1e-9 * w.astype(jnp.float16).astype(jnp.float32))

        return float(unscaled(scaling, jax.grad(loss)(jnp.float32(1))))

    assert gradient(()) == 0
    assert gradient(scale_of(2**15)) == pytest.approx(1e-9, rel=1e-3)


OPTIMIZER = optax.adam(0.25)


def first_state(scale: Any = None) -> TrainState:
    variables = {"params": {"w": jnp.ones(3)}, "batch_stats": {"mean": jnp.zeros(3)}}
    state = TrainState(jnp.zeros((), jnp.int32), variables, {"s": jnp.ones(2)}, None)
    state = state._replace(opt_state=OPTIMIZER.init(trainable(state)))
    return state if scale is None else state._replace(loss_scale=scale)


def step(state: TrainState, gradient: jax.Array):
    """A step whose gradients, scaled, are all `gradient`; the statistics move by one."""
    params = trainable(state)
    grads = jax.tree.map(lambda leaf: jnp.full(leaf.shape, gradient), params)
    grads = unscaled(state.loss_scale, grads)
    updates, opt_state = OPTIMIZER.update(grads, state.opt_state, params)
    params: Any = optax.apply_updates(params, updates)
    statistics = jax.tree.map(lambda leaf: leaf + 1, state.variables["batch_stats"])
    after = state._replace(
        step=state.step + 1,
        variables={"params": params["student"], "batch_stats": statistics},
        regularizer=params["regularizer"],
        opt_state=opt_state,
    )
    return guarded(state, after, grads, {})


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_step_without_finite_gradients_moves_nothing_but_the_counter_and_the_scale(bad):
    before, _ = jax.jit(step)(first_state(scale_of(8)), jnp.float32(8))
    after, metrics = jax.jit(step)(before, jnp.float32(bad))
    assert (int(after.step), float(after.loss_scale.scale)) == (2, 4)
    assert_same(after._replace(step=before.step, loss_scale=before.loss_scale), before)
    assert metrics["gradient_norm"] == (0, 0)  # it is no number that could be averaged
    assert metrics["skipped"] == (1, 1)
    assert metrics["loss_scale"] == (8, 1)


def test_a_finite_step_is_the_step_without_scaling():
    plain, plain_metrics = jax.jit(step)(first_state(), jnp.float32(3))
    after, metrics = jax.jit(step)(first_state(scale_of(16)), jnp.float32(48))
    assert plain.loss_scale == ()
    assert_same(after._replace(loss_scale=()), plain)
    assert metrics["gradient_norm"] == plain_metrics["gradient_norm"]
    assert float(metrics["gradient_norm"][0]) == pytest.approx(3 * np.sqrt(5))
    assert metrics["skipped"] == (0, 1)
    assert plain_metrics.keys() == {"gradient_norm"}


def test_one_bad_gradient_among_many_is_enough():
    state = first_state(scale_of(4))
    grads = {"student": {"w": jnp.array([1.0, np.inf, 1.0])}, "regularizer": {"s": jnp.ones(2)}}
    after, _ = guarded(state, state._replace(step=state.step + 1), grads, {})
    assert float(after.loss_scale.scale) == 2


def test_without_scaling_a_bad_gradient_is_seen():
    after, metrics = jax.jit(step)(first_state(), jnp.float32(np.nan))
    assert np.isnan(metrics["gradient_norm"][0])
    assert np.isnan(after.variables["params"]["w"]).all()


BAD = np.array([0, 1, 0, 0, 1, 1, 0, 0], bool)
PATH = [8, 8, 4, 4, 4, 2, 1, 1]
"""The scale of each step, from 8 on."""


def test_many_steps_in_one_call():
    gradients = jnp.where(BAD, jnp.inf, 1.0)
    state, metrics = jax.jit(lambda state: jax.lax.scan(step, state, gradients))(
        first_state(scale_of(8))
    )
    np.testing.assert_array_equal(metrics["loss_scale"][0], PATH)
    np.testing.assert_array_equal(metrics["skipped"][0], BAD)
    assert (int(state.step), int(state.loss_scale.good_steps)) == (8, 2)
    np.testing.assert_array_equal(state.variables["batch_stats"]["mean"], 5)  # finite steps


def test_trials_in_one_program_skip_each_its_own():
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), first_state(scale_of(8)))
    after, metrics = jax.jit(jax.vmap(step))(states, jnp.array([1.0, np.nan, 2.0]))
    np.testing.assert_array_equal(after.loss_scale.scale, [8, 4, 8])
    np.testing.assert_array_equal(metrics["skipped"][0], [0, 1, 0])
    np.testing.assert_array_equal(after.variables["params"]["w"][1], 1)
    np.testing.assert_array_equal(after.variables["batch_stats"]["mean"][:, 0], [1, 0, 1])


def test_a_gradient_that_one_device_sees_skips_the_step_of_all():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def run(state, rows):
        return step(state, jnp.sum(rows))

    rows = jax.device_put(jnp.zeros(8).at[5].set(jnp.inf), NamedSharding(mesh, P("data")))
    state = jax.device_put(first_state(scale_of(8)), NamedSharding(mesh, P()))
    after, metrics = jax.jit(run)(state, rows)
    assert float(after.loss_scale.scale) == 4
    assert metrics["skipped"] == (1, 1)


def test_a_checkpoint_holds_the_scale_where_there_is_one(tmp_path):
    for name, scaling in {"half": scale_of(4, 7), "plain": ()}.items():
        state = first_state(scaling)
        with Checkpoints(tmp_path / name) as checkpoints:
            checkpoints.save(state, 1)
        with Checkpoints(tmp_path / name) as checkpoints:
            found = checkpoints.restore(first_state(scale_of(1) if scaling else ()))
        assert_same(found, state)
        assert type(found.loss_scale) is type(scaling)


def test_a_scale_below_one_is_exhausted():
    assert not exhausted({"loss": (1.0, 1.0)})
    assert not exhausted({"loss_scale": (1.0, 1.0)})
    assert exhausted({"loss_scale": (0.5, 1.0)})
    trials = exhausted({"loss_scale": (np.array([2.0, 0.5]), np.ones(2))})
    np.testing.assert_array_equal(trials, [False, True])
