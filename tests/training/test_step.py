"""The step: what it computes, and that the devices it runs on do not change it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax import aft_loss
from aft_jax.data import RowOrder
from aft_jax.errors import ConfigError
from aft_jax.training import build
from aft_jax.training.batches import train_batch
from aft_jax.training.experiment import initial_state
from aft_jax.training.sharding import row_sharded
from aft_jax.training.step import objective


def batch_of(experiment, step=0, seed=0):
    order = RowOrder(len(experiment.train.dataset), experiment.config.batch_size, seed)
    rows = row_sharded(experiment.mesh)
    return train_batch(experiment.train, experiment.features, order, step, 0, rows)


def run_steps(config, steps):
    experiment = build(config)
    state = initial_state(experiment, seed=3)
    metrics = []
    for step in range(steps):
        batch = batch_of(experiment, step, seed=3)
        state, values = experiment.train_step(state, batch, jnp.float32(10.0), jax.random.key(3))
        metrics.append(values)
    return jax.device_get((state, metrics))


def test_eight_devices_give_the_state_and_metrics_of_one(config):
    one_state, one_metrics = run_steps(config, 10)
    all_state, all_metrics = run_steps(dataclasses.replace(config, devices=8), 10)
    for one, many in zip(
        jax.tree.leaves((one_state, one_metrics)),
        jax.tree.leaves((all_state, all_metrics)),
        strict=True,
    ):
        np.testing.assert_allclose(many, one, rtol=1e-5, atol=1e-5)


def test_the_batch_is_spread_over_the_devices(config):
    experiment = build(dataclasses.replace(config, devices=8))
    batch = batch_of(experiment)
    for leaf in jax.tree.leaves(batch):
        assert len(leaf.sharding.device_set) == 8
        assert leaf.sharding.shard_shape(leaf.shape)[0] == 5


def test_a_batch_that_does_not_divide_is_refused(config):
    with pytest.raises(ConfigError, match=r"multiple of the devices.*41 rows for 8.*to 48"):
        build(dataclasses.replace(config, devices=8, batch_size=41))
    with pytest.raises(ConfigError, match="at most the 8 devices here; got 9"):
        build(dataclasses.replace(config, devices=9))


def test_the_objective_is_the_task_loss_plus_beta_times_the_kernel_distance(config):
    experiment = build(config)
    state = initial_state(experiment, seed=0)
    batch = batch_of(experiment)

    @jax.jit
    def compute(variables, params, batch):
        output, _ = experiment.student.apply(variables, batch.inputs, False, {})
        distance = aft_loss(params["scales"], output.features, batch.teacher_features)
        return (
            output,
            distance,
            objective(experiment.regularizer, params, output, batch, jnp.float32(7.0)),
        )

    output, distance, (loss, metrics) = compute(state.variables, state.regularizer, batch)
    logits = np.asarray(output.logits, np.float64)
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    task = -np.mean(log_softmax[np.arange(40), np.asarray(batch.labels)])
    assert float(loss) == pytest.approx(task + 7.0 * float(distance), rel=1e-5)
    correct = np.sum(logits.argmax(axis=1) == np.asarray(batch.labels))
    assert metrics["accuracy"] == (pytest.approx(correct), 40.0)


def test_beta_zero_trains_the_student_of_plain_fine_tuning(config):
    """AFT with beta 0 and stl take the same steps: same initial head, same rows, same update."""
    ours = state_after_three_steps(config, "aft", beta=0.0)
    plain = state_after_three_steps(config, "stl", beta=0.0)
    for a, b in zip(jax.tree.leaves(ours.variables), jax.tree.leaves(plain.variables), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def state_after_three_steps(config, method, beta):
    experiment = build(dataclasses.replace(config, method=method))
    state = initial_state(experiment, seed=3)
    batch = batch_of(experiment)
    for _ in range(3):
        state, _ = experiment.train_step(state, batch, jnp.float32(beta), jax.random.key(3))
    return jax.device_get(state)


def test_the_step_compiles_once(config):
    experiment = build(config)
    train_step: Any = experiment.train_step
    state = initial_state(experiment, seed=0)
    for step in range(3):
        batch = batch_of(experiment, step)
        state, _ = train_step(state, batch, jnp.float32(1.0 + step), jax.random.key(step))
    assert train_step._cache_size() == 1  # the jitted function's own counter
