"""The gradient of the tune loss by beta, one step ahead, against finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tqdm import tqdm

from aft_jax.losses.regularizer import make_regularizer
from aft_jax.training import build, workdir
from aft_jax.training.group import Programs, Trial
from aft_jax.training.metrics import read_metrics
from aft_jax.training.online import look_ahead, make_online_step, online
from aft_jax.training.state import TrainState
from aft_jax.training.together import fit_together
from aft_jax.training.tuner import fixed, load_schedule
from aft_jax.types import Batch, Student, StudentOutput


def linear_student(dead: int):
    """Two linear maps in float64; the last `dead` features are zero whatever the input."""

    def init(key, inputs):
        first, second = jax.random.split(key)
        body = jax.random.normal(first, (5, 4), jnp.float64)
        return {"params": {"body": body, "head": jax.random.normal(second, (4, 3), jnp.float64)}}

    def apply(variables, inputs, train, rngs):
        alive = jnp.arange(4) < 4 - dead
        features = jnp.where(alive[None], jnp.tanh(inputs @ variables["params"]["body"]), 0)
        return StudentOutput(features @ variables["params"]["head"], features), variables

    return Student(init, apply)


def batch_of(seed, rows, teacher):
    rng = np.random.default_rng(seed)
    features = {"teacher": jnp.asarray(rng.normal(size=(rows, 6)))} if teacher else {}
    ones = jnp.ones(rows, jnp.float64)
    inputs = jnp.asarray(rng.normal(size=(rows, 5)))
    return Batch(inputs, jnp.asarray(rng.integers(0, 3, rows), jnp.int32), ones, ones, features)


OPTIMIZERS = {
    "sgd": optax.sgd(0.1, momentum=0.9),
    "adamw": optax.adamw(0.01, weight_decay=0.1),
}


def setup(optimizer, dead=0):
    student = linear_student(dead)
    variables = student.init(jax.random.key(0), None)
    regularizer = make_regularizer("aft_uniform")
    params = {"student": variables["params"], "regularizer": {}}
    state = TrainState(jnp.zeros((), jnp.int32), variables, {}, optimizer.init(params))
    batches = [batch_of(1, 12, True), batch_of(2, 9, False)]

    def ahead(state, beta):
        train, tune = batches
        key = jax.random.key(0)
        return look_ahead(student, regularizer, optimizer, state, beta, train, tune, key)

    def tune_loss(state):
        output, _ = student.apply(state.variables, batches[1].inputs, False, {})
        losses = optax.softmax_cross_entropy_with_integer_labels(output.logits, batches[1].labels)
        return losses.mean()

    return state, jax.jit(ahead), jax.jit(tune_loss)


def check_slope(state, ahead, tune_loss, beta):
    slope = float(ahead(state, jnp.float64(beta)).slope)
    high, low = (tune_loss(ahead(state, jnp.float64(beta + h)).state) for h in (1e-5, -1e-5))
    assert slope == pytest.approx(float(high - low) / 2e-5, rel=1e-5)
    assert abs(slope) > 1e-6


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_slope_is_that_of_finite_differences(x64, optimizer):
    """In the second step, which has moments of the first: Adam's own first is a sign alone."""
    state, ahead, tune_loss = setup(OPTIMIZERS[optimizer])
    state = ahead(state, jnp.float64(0.5)).state
    check_slope(state, ahead, tune_loss, 4.0)


def test_a_weight_without_gradient_leaves_the_slope_finite(x64):
    """Adam's root of a zero second moment has no finite derivative."""
    state, ahead, tune_loss = setup(OPTIMIZERS["adamw"], dead=2)
    state = ahead(state, jnp.float64(0.5)).state
    check_slope(state, ahead, tune_loss, 4.0)


@pytest.mark.parametrize(("rate", "shift"), [(0.5, None), (1e9, 2.0)])
def test_log_beta_moves_against_the_slope_and_at_most_doubles(x64, rate, shift):
    optimizer = OPTIMIZERS["sgd"]
    state, ahead, _ = setup(optimizer)
    step = make_online_step(linear_student(0), make_regularizer("aft_uniform"), optimizer, rate)
    beta = jnp.float64(3.0)
    slope = 3.0 * float(ahead(state, beta).slope)
    batches = (batch_of(1, 12, True), batch_of(2, 9, False))
    _, moved, metrics = step(state, beta, *batches, jax.random.key(0))
    factor = np.exp(-rate * slope) if shift is None else shift ** -np.sign(slope)
    assert float(moved) == pytest.approx(3.0 * factor, rel=1e-9)
    assert float(metrics["beta_slope"][0]) == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize(("start", "expected"), [(1e4, 1e4), (1e-3, 1e-3)])
def test_beta_stays_in_its_range(x64, start, expected):
    """A rate of either sign pushes beta out of one of the two ends."""
    optimizer = OPTIMIZERS["sgd"]
    state, ahead, _ = setup(optimizer)
    slope = float(ahead(state, jnp.float64(start)).slope)
    outwards = -1e9 * np.sign(slope) * (1 if start > 1 else -1)
    step = make_online_step(linear_student(0), make_regularizer("aft_uniform"), optimizer, outwards)
    batches = (batch_of(1, 12, True), batch_of(2, 9, False))
    _, moved, _ = step(state, jnp.float64(start), *batches, jax.random.key(0))
    assert float(moved) == pytest.approx(expected)


def test_an_online_run_without_movement_is_the_plain_run(config, tmp_path):
    """At a rate of zero beta stays, and the step is the trainer's."""
    experiment = build(config)
    runs = []
    for name, tuner in {"plain": fixed(experiment), "online": online(experiment, 0.0, 2)}.items():
        trial = Trial(dataclasses.replace(config, beta=3.0), tmp_path / name)
        workdir.claim(trial.directory, trial.config)
        programs = Programs(experiment, tuner.step)
        with tqdm(disable=True) as bar:
            fit_together(programs, tuner, [trial], tmp_path / f"{name}-group", bar)
        runs.append((trial.directory, read_metrics(trial.directory)))
    for plain, moving in zip(runs[0][1], runs[1][1], strict=True):
        for key in set(plain) - {"split", "steps_per_second"}:
            assert moving[key] == pytest.approx(plain[key], rel=1e-4)
    assert load_schedule(runs[1][0]).betas == (3.0, 3.0, 3.0, 3.0)
    assert {line["beta"] for line in runs[1][1] if line["split"] == "train"} == {3.0}
