"""The schedule by hand, and what each of the two groups of parameters does without the other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aft_jax.config import OptimConfig
from aft_jax.training.optim import make_optimizer, schedule

HALF = 0.5**0.5


@pytest.mark.parametrize(
    ("warmup_steps", "steps", "expected"),
    [
        (2, 6, [0, 1 / 2, 1, (1 + HALF) / 2, 1 / 2, (1 - HALF) / 2, 0, 0]),
        (0, 4, [1, (1 + HALF) / 2, 1 / 2, (1 - HALF) / 2, 0, 0]),
        (4, 4, [0, 1 / 4, 1 / 2, 3 / 4, 1]),
        (0, 1, [1, 0]),
    ],
)
def test_linear_warm_up_then_cosine_to_zero(warmup_steps, steps, expected):
    rate = schedule(0.2, warmup_steps, steps)
    values = [np.asarray(rate(jnp.int32(step))) for step in range(len(expected))]
    np.testing.assert_allclose(values, 0.2 * np.array(expected), rtol=1e-5, atol=1e-8)


def config(**changes):
    return dataclasses.replace(OptimConfig(0.1, 0.0, 0.01, warmup_steps=0), **changes)


PARAMS = {
    "student": {"w": jnp.array([1.0, -2.0])},
    "regularizer": {"scales": jnp.array([3.0, 4.0])},
}
ONES = jax.tree.map(jnp.ones_like, PARAMS)
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


def moves(optimizer, gradients, steps=1):
    """How far the student and the scales have moved after some steps on the same gradients."""
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    moved = jax.tree.map(lambda new, old: np.asarray(new - old), params, PARAMS)
    return moved["student"]["w"], moved["regularizer"]["scales"]


def test_each_group_has_its_own_rate():
    """Adam's first step is the learning rate times the gradient's sign, whatever its size."""
    gradients = jax.tree.map(lambda x: jnp.array([5.0, -0.5]), PARAMS)
    student, scales = moves(make_optimizer(config(), "aft", 10), gradients)
    np.testing.assert_allclose(student, [-0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(scales, [-0.01, 0.01], rtol=1e-4)


def test_a_group_without_gradient_stays_where_it_is():
    optimizer = make_optimizer(config(), "aft", 10)
    student, scales = moves(optimizer, ZEROS | {"regularizer": ONES["regularizer"]}, steps=3)
    assert not np.any(student)
    assert np.all(scales < 0)
    student, scales = moves(optimizer, ZEROS | {"student": ONES["student"]}, steps=3)
    assert np.all(student < 0)
    assert not np.any(scales)


def test_a_rate_of_zero_holds_one_group():
    student, scales = moves(make_optimizer(config(scales_learning_rate=0.0), "aft", 10), ONES)
    assert not np.any(scales)
    assert np.all(student < 0)


def test_weight_decay_is_the_students_only():
    """Decoupled: with no gradient a weight shrinks by learning rate times decay."""
    student, scales = moves(make_optimizer(config(weight_decay=0.5), "aft", 10), ZEROS)
    np.testing.assert_allclose(student, [-0.1 * 0.5 * 1, 0.1 * 0.5 * 2], rtol=1e-5)
    assert not np.any(scales)


def test_both_groups_follow_the_schedule():
    """Constant gradients make every Adam step its learning rate: 0 + 1/2 + 1 + 1/2 peaks."""
    optimizer = make_optimizer(config(warmup_steps=2), "aft", 4)
    student, scales = moves(optimizer, ONES, steps=4)
    np.testing.assert_allclose(student, [-0.2, -0.2], rtol=1e-4)
    np.testing.assert_allclose(scales, [-0.02, -0.02], rtol=1e-4)


def test_a_method_without_parameters():
    params = {"student": PARAMS["student"], "regularizer": {}}
    optimizer = make_optimizer(config(), "aft", 10)
    updates, _ = optimizer.update(ONES | {"regularizer": {}}, optimizer.init(params), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


def test_the_state_has_no_moments_of_the_other_group():
    """Two moments of the student's two weights and two of the two scales, and the step counters."""
    state = make_optimizer(config(), "aft", 10).init(PARAMS)
    assert sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim) == 2 * 2 + 2 * 2
