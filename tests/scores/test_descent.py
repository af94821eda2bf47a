"""L-BFGS on functions whose minimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.scores import descent


@pytest.fixture
def quadratic():
    """(objective, minimum) of a quadratic whose curvature goes from 1 to `condition`."""

    def make(condition, shape=(4, 3)):
        rng = np.random.default_rng(0)
        size = int(np.prod(shape))
        axes, _ = np.linalg.qr(rng.normal(size=(size, size)))
        curvature = np.geomspace(1, condition, size)
        matrix = jnp.asarray(axes * curvature @ axes.T, jnp.float32)
        lowest = jnp.asarray(rng.normal(size=shape), jnp.float32)

        def objective(x):
            slope = matrix @ (x - lowest).ravel()
            return slope @ (x - lowest).ravel() / 2, slope.reshape(shape)

        return objective, lowest

    return make


def minimum_of(objective, start):
    run = jax.jit(lambda x: descent.minimise(objective, x, jnp.float32(0)))
    return run(start)


@pytest.mark.parametrize(("condition", "steps"), [(1.0, 2), (30.0, 25), (1000.0, 60)])
def test_the_curvature_is_learned(condition, steps, quadratic, monkeypatch):
    """Gradient descent would need as many steps as the condition, times the digits wanted."""
    monkeypatch.setattr(descent, "STEPS", steps)
    objective, lowest = quadratic(condition)
    found = minimum_of(objective, jnp.zeros_like(lowest))
    np.testing.assert_allclose(found, lowest, rtol=0, atol=2e-3)


def test_a_minimum_is_not_left(quadratic):
    objective, lowest = quadratic(30.0)
    np.testing.assert_array_equal(minimum_of(objective, lowest), lowest)


def test_a_step_that_is_too_long_is_halved():
    """Curvature 100 where 1 is supposed: a full step would go up."""
    lowest = jnp.full((1, 1), 3.0)
    found = minimum_of(lambda x: (50 * jnp.sum((x - lowest) ** 2), 100 * (x - lowest)), 0 * lowest)
    np.testing.assert_allclose(found, lowest, rtol=0, atol=1e-4)


def test_a_value_that_is_no_number_is_not_taken():
    """Beyond 4 the function is NaN, and the first full step goes there."""

    def objective(x):
        value = jnp.where(x > 4, jnp.nan, 5 * (x - 3) ** 2)
        return jnp.sum(value), 10 * (x - 3)

    found = minimum_of(objective, jnp.zeros((1, 1)))
    np.testing.assert_allclose(found, 3, rtol=0, atol=1e-4)
