"""Averages of weights by hand, and running statistics equal to those of NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from aft_jax.experiments.soups.averaging import Statistics, mixture
from aft_jax.students import from_linen, from_nnx
from aft_jax.students.layers.norm import BatchNorm
from aft_jax.training.sharding import data_mesh
from aft_jax.types import Batch, StudentOutput


def test_a_mean_is_taken_in_double_precision_and_cast_back():
    """Three bfloat16 numbers whose sum bfloat16 would round: 256 + 1 + 1."""
    students = [
        {
            "params": {"w": np.array([value, -value], ml_dtypes.bfloat16), "b": np.array(0.5)},
            "state": {"count": np.array(7 + place)},
        }
        for place, value in enumerate([256, 1, 1])
    ]
    mixed = mixture(students[0]).add(students[1]).add(students[2])
    mean = mixed.mean(students[0])
    assert mean["params"]["w"].dtype == ml_dtypes.bfloat16
    assert mean["params"]["w"].tolist() == [86.0, -86.0]
    assert mean["state"]["count"] == 7  # no average of whole numbers: the first one's


def test_the_mean_of_one_is_itself():
    tree = {"params": {"w": np.array([0.1, 1e-30, 3e38], np.float32)}}
    np.testing.assert_array_equal(mixture(tree).mean(tree)["params"]["w"], tree["params"]["w"])


class Linen(nn.Module):
    """A linear map and a batch normalisation, of Flax or ours."""

    ours: bool
    momentum: float = 0.99

    @nn.compact
    def __call__(self, inputs, train):
        features = nn.Dense(2, name="map", use_bias=False)(inputs)
        if self.ours:
            features = BatchNorm(1e-5, jnp.float32, name="norm")(features, train)
        else:
            norm = nn.BatchNorm(not train, momentum=self.momentum, name="norm")
            features = norm(features)
        return StudentOutput(features, features)


class Nnx(nnx.Module):
    """The same in NNX."""

    def __init__(self, rngs):
        self.map = nnx.Linear(3, 2, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(2, momentum=0.9, rngs=rngs)

    def __call__(self, inputs):
        features = self.norm(self.map(inputs))
        return StudentOutput(features, features)


def batch_of(inputs):
    ones = jnp.ones(len(inputs))
    return Batch(inputs, jnp.zeros(len(inputs), jnp.int32), ones, ones, {})


STUDENTS = {
    "linen": (from_linen(Linen(ours=False)), "batch_stats", 1),
    "ours": (from_linen(Linen(ours=True)), "batch_stats", 4 / 3),
    "nnx": (from_nnx(Nnx), "state", 1),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_statistics_are_means_over_the_batches_whatever_they_were(name):
    student, collection, unbiased = STUDENTS[name]
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(4, 3)) * 50 + 200).astype(np.float32) for _ in range(3)]
    with jax.numpy_dtype_promotion("standard"):
        variables = jax.device_get(student.init(jax.random.key(0), jnp.ones((1, 3))))
        old = jax.tree.map(lambda leaf: leaf + np.float32(5), variables[collection])
        variables = {**variables, collection: old}
        statistics = Statistics(student, data_mesh(1, 4))
        fitted = statistics.fit(variables, (batch_of(jnp.asarray(rows)) for rows in batches))
    kernel = variables["params"]["map"]["kernel"].astype(np.float64)
    mapped = [rows.astype(np.float64) @ kernel for rows in batches]
    found = fitted[collection]["norm"]
    means = np.mean([rows.mean(0) for rows in mapped], axis=0)
    variances = np.mean([unbiased * rows.var(0) for rows in mapped], axis=0)
    np.testing.assert_allclose(found["mean"], means, rtol=2e-5)
    np.testing.assert_allclose(found["var"], variances, rtol=2e-3)  # float32's own variance
    assert found["mean"].dtype == np.float32
    assert jax.tree.structure(fitted) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, fitted["params"], variables["params"])


class Counter(nn.Module):
    """State that is no running mean: the largest value seen, one that shrinks down to one."""

    @nn.compact
    def __call__(self, inputs, train):
        features = nn.Dense(2)(inputs)
        largest = self.variable("seen", "largest", jnp.zeros, ())
        shrinking = self.variable("seen", "shrinking", jnp.zeros, ())
        steps = self.variable("seen", "steps", jnp.zeros, (), jnp.int32)
        if train:
            largest.value = jnp.maximum(largest.value, jnp.max(inputs))
            shrinking.value = jnp.maximum(0.5 * shrinking.value, 1.0)
            steps.value += 1
        return StudentOutput(features, features)


def test_state_that_is_no_running_mean_stays():
    student = from_linen(Counter())
    variables = jax.device_get(student.init(jax.random.key(0), jnp.ones((1, 3))))
    seen = {
        "largest": np.array(0.25, np.float32),
        "shrinking": np.array(8, np.float32),
        "steps": np.array(3, np.int32),
    }
    variables = {**variables, "seen": seen}
    fitted = Statistics(student, data_mesh(1, 4)).fit(variables, [batch_of(jnp.ones((4, 3)))])
    assert fitted["seen"] == seen


def test_a_student_without_state_is_returned_as_it_is():
    variables = {"params": {"w": np.ones(2, np.float32)}}
    assert Statistics(from_linen(Counter()), data_mesh(1, 4)).fit(variables, []) is variables
