"""Micro-batches give the gradients of the whole batch: the kernel is over all of its rows."""

import dataclasses
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.errors import ConfigError
from aft_jax.training import build
from aft_jax.training.accumulation import micro_batches
from aft_jax.training.batches import train_batch
from aft_jax.training.experiment import initial_state
from aft_jax.training.sharding import row_sharded
from aft_jax.training.step import whole_batch
from aft_jax.types import Student, StudentOutput


def gradients(config, count=1):
    """Of one batch of a run: (grads, metrics) on the host."""
    experiment = build(dataclasses.replace(config, accumulation_steps=count))
    order = experiment.protocol.order(0)
    rows = row_sharded(experiment.mesh)
    batch = train_batch(experiment.train, experiment.features, order, 0, 0, rows)
    arguments = (experiment.student, experiment.regularizer)
    of = micro_batches(*arguments, count, experiment.mesh) if count > 1 else whole_batch(*arguments)
    state = initial_state(experiment, seed=0)
    found = jax.jit(of)(state, batch, jnp.float32(10.0), jax.random.key(0))
    return jax.device_get((found.grads, found.metrics))


def assert_close(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.max(np.abs(b), initial=1e-3))


@pytest.mark.parametrize(
    ("method", "devices"), [("stl", 1), ("aft", 1), ("aft", 4), ("aft_rbf", 1), ("kd", 1)]
)
def test_micro_batches_give_the_gradients_of_the_whole_batch(config, method, devices):
    config = dataclasses.replace(config, method=method, devices=devices)
    assert_close(gradients(config, 5), gradients(config))


def test_kernels_of_micro_batches_added_up_would_be_another_objective(config):
    """The check above is no tautology: gradients of separate kernels point elsewhere."""
    whole = gradients(config)[0]["student"]
    apart = jax.tree.map(jnp.zeros_like, whole)
    experiment = build(config)
    batch = train_batch(
        *(experiment.train, experiment.features, experiment.protocol.order(0), 0, 0),
        row_sharded(experiment.mesh),
    )
    of = jax.jit(whole_batch(experiment.student, experiment.regularizer))
    for start in range(0, 40, 8):
        part = jax.tree.map(lambda leaf, at=start: leaf[at : at + 8], batch)
        state = initial_state(experiment, seed=0)
        grads = of(state, part, jnp.float32(10.0), jax.random.key(0)).grads["student"]
        apart = jax.tree.map(lambda total, grad: total + grad / 5, apart, grads)
    ours, theirs = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (whole, apart)
    )
    cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    assert cosine < 0.99


def test_the_state_after_some_steps_is_that_of_the_whole_batch(config):
    states = []
    for count in (1, 4):
        experiment = build(dataclasses.replace(config, accumulation_steps=count))
        state = initial_state(experiment, seed=0)
        order, rows = experiment.protocol.order(0), row_sharded(experiment.mesh)
        for step in range(3):
            batch = train_batch(experiment.train, experiment.features, order, step, 0, rows)
            state, _ = experiment.train_step(state, batch, jnp.float32(10.0), jax.random.key(0))
        states.append(jax.device_get(state))
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def affine_with_dropout() -> Student:
    """A student that drops inputs, and notes the masks' sum as a batch statistic."""

    def init(key, inputs):
        return {"params": {"w": jnp.ones(inputs.shape[1:])}, "batch_stats": {"rows": jnp.zeros(())}}

    def apply(variables, inputs, train, rngs):
        kept = jax.random.bernoulli(rngs["dropout"], 0.5, inputs.shape).astype(jnp.float32)
        features = inputs * variables["params"]["w"][None] * kept
        rows = variables["batch_stats"]["rows"] + inputs.shape[0]
        return StudentOutput(features, features), {**variables, "batch_stats": {"rows": rows}}

    return Student(init, apply)


def test_both_passes_draw_the_same_dropout_and_statistics_are_carried_on(config):
    experiment = build(config)
    student = affine_with_dropout()
    inputs = jnp.arange(1.0, 161).reshape(40, 4)
    state = initial_state(experiment, seed=0)._replace(
        variables=student.init(jax.random.key(0), inputs), regularizer={}
    )
    ones = jnp.ones(40)
    batch = train_batch(
        *(experiment.train, None, experiment.protocol.order(0), 0, 0), row_sharded(experiment.mesh)
    )._replace(inputs=inputs, labels=jnp.zeros(40, jnp.int32), mask=ones, feature_mask=ones)
    plain = build(dataclasses.replace(config, method="stl")).regularizer
    of = micro_batches(student, plain, 5, experiment.mesh)
    found = jax.jit(of)(state, batch, jnp.float32(0.0), jax.random.key(1))
    assert float(found.variables["batch_stats"]["rows"]) == 40

    keys = jax.random.split(jax.random.key(1), 5)

    def loss(weights):
        total = 0.0
        for part, key in zip(jnp.split(inputs, 5), keys, strict=True):
            kept = jax.random.bernoulli(key, 0.5, part.shape).astype(jnp.float32)
            total -= jnp.sum(jax.nn.log_softmax(part * weights[None] * kept)[:, 0])
        return total / 40

    expected = jax.grad(loss)(jnp.ones(4))
    np.testing.assert_allclose(found.grads["student"]["w"], expected, rtol=1e-5)


def test_batch_normalisation_is_said_to_differ(config, caplog):
    with caplog.at_level(logging.WARNING, "aft_jax"):
        build(dataclasses.replace(config, accumulation_steps=4))
    assert "batch normalisation" not in caplog.text
    name = "tests.training.batch_norm:batch_norm_student"
    student = dataclasses.replace(config.student, name=name, options={}, init_from="")
    with caplog.at_level(logging.WARNING, "aft_jax"):
        build(dataclasses.replace(config, student=student, accumulation_steps=4))
    assert "batch normalisation sees 10 rows at a time and not 40" in caplog.text


def test_micro_batches_that_do_not_divide_are_refused(config):
    with pytest.raises(ConfigError, match=r"devices times config\.accumulation_steps; got 40 rows"):
        build(dataclasses.replace(config, devices=8, accumulation_steps=2))


def test_micro_batches_take_less_memory(config):
    options = {"widths": (64, 64), "strides": (1, 1)}
    student = dataclasses.replace(config.student, init_from="", options=options)
    taken = {}
    for count in (1, 8):
        experiment = build(dataclasses.replace(config, student=student, accumulation_steps=count))
        rows = row_sharded(experiment.mesh)
        order = experiment.protocol.order(0)
        batch = train_batch(experiment.train, experiment.features, order, 0, 0, rows)
        state = jax.eval_shape(experiment.new_state, jax.random.key(0))
        lowered = jax.jit(experiment.step).lower(state, batch, jnp.float32(1.0), jax.random.key(0))
        memory: Any = lowered.compile().memory_analysis()
        taken[count] = memory.temp_size_in_bytes
    assert taken[8] < 0.5 * taken[1]
