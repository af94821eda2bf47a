"""L-BFGS as one compiled program: a fit is one call to the device, whatever its number of steps."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aft_jax.types import Array, Float

STEPS = 200
MEMORY = 10
"""Pairs of steps and changes of the gradient that are kept."""

HALVINGS = 20
ARMIJO = 1e-4
SMALLEST_GRADIENT = 1e-6

Objective = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
"""x -> (value, gradient)."""


class _State(NamedTuple):
    x: jax.Array
    value: jax.Array
    gradient: jax.Array
    steps: jax.Array  # [m, ...] of the last iterations, newest last; zero where there was none
    changes: jax.Array  # [m, ...] of the gradient over them
    iteration: jax.Array
    done: jax.Array


class _Trial(NamedTuple):
    length: jax.Array
    x: jax.Array
    value: jax.Array
    gradient: jax.Array
    halvings: jax.Array


def minimise(
    objective: Objective, start: Float[Array, "t k"], tolerance: Float[Array, ""]
) -> Float[Array, "t k"]:
    """Minimises a smooth convex function whose curvature is near one; to be called under jit.

    Steps start at full length and are halved until the value falls enough (Armijo). Of a convex
    function s^T y is not negative, so no search for curvature is needed.

    Args:
        objective: x -> (value, gradient).
        start: where to begin.
        tolerance: relative decrease in a step that ends the search.

    Returns:
        The minimum.

    Reference:
        Nocedal and Wright, "Numerical Optimization", 2nd edition, chapter 7.2.
    """
    value, gradient = objective(start)
    history = jnp.zeros((MEMORY, *start.shape), start.dtype)
    state = _State(start, value, gradient, history, history, jnp.int32(0), _flat(gradient))
    final = jax.lax.while_loop(
        lambda state: ~state.done & (state.iteration < STEPS),
        lambda state: _iterate(objective, tolerance, state),
        state,
    )
    return final.x


def _iterate(objective: Objective, tolerance: jax.Array, state: _State) -> _State:
    direction = -_inverse_curvature(state)
    slope = _dot(direction, state.gradient)
    trial = _search(objective, state, direction, slope)
    fallen = state.value - trial.value
    better = fallen > 0
    scale = jnp.maximum(jnp.maximum(jnp.abs(state.value), jnp.abs(trial.value)), 1)
    done = ~better | (fallen <= tolerance * scale) | _flat(trial.gradient)
    step, change = trial.x - state.x, trial.gradient - state.gradient
    return _State(
        x=jnp.where(better, trial.x, state.x),
        value=jnp.where(better, trial.value, state.value),
        gradient=jnp.where(better, trial.gradient, state.gradient),
        steps=jnp.concatenate([state.steps[1:], step[None]]),
        changes=jnp.concatenate([state.changes[1:], change[None]]),
        iteration=state.iteration + 1,
        done=done,
    )


def _search(objective: Objective, state: _State, direction: jax.Array, slope: jax.Array) -> _Trial:
    def at(length: jax.Array, halvings: jax.Array) -> _Trial:
        x = state.x + length * direction
        return _Trial(length, x, *objective(x), halvings)

    def too_long(trial: _Trial) -> jax.Array:
        enough = trial.value <= state.value + ARMIJO * trial.length * slope
        return ~enough & (trial.halvings < HALVINGS)  # NaN is not enough either

    one = jnp.ones((), direction.dtype)
    return jax.lax.while_loop(
        too_long, lambda trial: at(trial.length / 2, trial.halvings + 1), at(one, jnp.int32(0))
    )


def _inverse_curvature(state: _State) -> jax.Array:
    """The two loops of L-BFGS over the history, applied to the gradient."""
    products = jnp.sum(state.steps * state.changes, axis=(1, 2))
    usable = products > 0  # not where there was no step, nor where rounding bent the function
    weights = jnp.where(usable, 1 / jnp.where(usable, products, 1), 0)

    def newest_first(number, carry):
        vector, alphas = carry
        place = MEMORY - 1 - number
        alpha = weights[place] * _dot(state.steps[place], vector)
        return vector - alpha * state.changes[place], alphas.at[place].set(alpha)

    def oldest_first(place, vector):
        beta = weights[place] * _dot(state.changes[place], vector)
        return vector + (alphas[place] - beta) * state.steps[place]

    carry = state.gradient, jnp.zeros_like(weights)
    vector, alphas = jax.lax.fori_loop(0, MEMORY, newest_first, carry)
    square = _dot(state.changes[-1], state.changes[-1])
    vector = vector * jnp.where(usable[-1], products[-1] / jnp.where(square > 0, square, 1), 1)
    return jax.lax.fori_loop(0, MEMORY, oldest_first, vector)


def _dot(one: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.sum(one * other)


def _flat(gradient: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(gradient)) <= SMALLEST_GRADIENT
