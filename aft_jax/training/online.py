"""Online tuning: beta follows the gradient of the tune loss, one step ahead.

With the student's weights theta, the optimizer's update U and gradients g of task and penalty,

    theta'(beta) = theta + U(g_task + beta g_penalty)
    log beta    <- log beta - rate * beta * <grad L_tune(theta'), d theta' / d beta>    (clipped)

The derivative runs through the optimizer, Adam's moments of this step included, and is exact for
one step: what beta does to later steps is not seen.

Reference: the one-step look-ahead of Luketina et al., "Scalable Gradient-Based Tuning of Continuous
Regularization Hyperparameters", ICML 2016, arXiv 1511.06727.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from aft_jax.config import BETA_RANGE
from aft_jax.training.experiment import Experiment
from aft_jax.training.loss_scale import all_finite, guarded, scaled, unscaled
from aft_jax.training.stacked import TunerStep
from aft_jax.training.state import TrainState, stream_key, trainable
from aft_jax.training.step import Terms, forward, joined_terms, objective_terms, task_metrics
from aft_jax.training.tuner import Tuner, with_beta_metric
from aft_jax.types import Batch, Metrics, PyTree, Regularizer, Student

LARGEST_SHIFT = math.log(2.0)
"""Of log beta in one step: beta is at most doubled or halved."""


class LookAhead(NamedTuple):
    """A step and how it answers to beta.

    Attributes:
        state: after the step.
        slope: d L_tune(theta') / d beta; zero where a step of float16 is skipped.
        metrics: of the batch.
    """

    state: TrainState
    slope: jax.Array
    metrics: Metrics


def online(experiment: Experiment, rate: float, interval: int) -> Tuner:
    """The tuner.

    Args:
        experiment: whose step is taken.
        rate: of log beta, as `config.sweep.beta_learning_rate`.
        interval: steps between two entries of the schedule that is kept.

    Returns:
        The tuner; it reads the labels of tune.
    """
    step = make_online_step(
        experiment.student, experiment.regularizer, experiment.protocol.optimizer, rate
    )
    return Tuner(with_beta_metric(step), interval, reads_tune=True)


def make_online_step(
    student: Student,
    regularizer: Regularizer,
    optimizer: optax.GradientTransformation,
    rate: float,
) -> TunerStep:
    """One optimizer step and one step of log beta, as a pure function.

    Args:
        student: the student.
        regularizer: the regularizer.
        optimizer: of the tree {"student": ..., "regularizer": ...}.
        rate: of log beta.

    Returns:
        The step. Its metrics include "beta_slope", d L_tune / d log beta, as a (slope, 1) state.
    """

    def step(state, beta, batch, tune, root):
        ahead = look_ahead(student, regularizer, optimizer, state, beta, batch, tune, root)
        slope = beta * ahead.slope
        # One batch with a huge slope must not throw beta across its range.
        shift = jnp.clip(-rate * slope, -LARGEST_SHIFT, LARGEST_SHIFT)
        moved = jnp.clip(beta * jnp.exp(shift), *BETA_RANGE)
        metrics = ahead.metrics | {"beta_slope": (slope, jnp.ones_like(slope))}
        return ahead.state, moved, metrics

    return step


def look_ahead(
    student: Student,
    regularizer: Regularizer,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    beta: jax.Array,
    batch: Batch,
    tune: Batch,
    root: jax.Array,
) -> LookAhead:
    """Takes a training step and differentiates the tune loss after it with respect to beta.

    Args:
        student: the student.
        regularizer: the regularizer.
        optimizer: of the tree {"student": ..., "regularizer": ...}.
        state: before the step.
        beta: scalar.
        batch: of the training split.
        tune: of the tune split.
        root: root key of the run.

    Returns:
        The state after the step, the derivative and the metrics.
    """
    key = jax.random.fold_in(stream_key(root, "dropout"), state.step)
    params = trainable(state)

    def terms_of(params: PyTree) -> tuple[Terms, tuple[Metrics, PyTree]]:
        variables = {**state.variables, "params": params["student"]}
        output, variables = forward(student, variables, batch, key)
        terms, metrics = objective_terms(regularizer, params["regularizer"], output, batch)
        return terms, (metrics, variables)

    terms, pull, (metrics, variables) = jax.vjp(terms_of, params, has_aux=True)
    one, zero = jnp.ones_like(terms.task), jnp.zeros_like(terms.task)
    unit = scaled(state.loss_scale, one)
    task, penalty = (
        unscaled(state.loss_scale, pull(of_one)[0])
        for of_one in (Terms(unit, zero), Terms(zero, unit))
    )

    def moved(beta: jax.Array) -> tuple[PyTree, tuple[PyTree, PyTree, PyTree]]:
        grads = jax.tree.map(lambda g, h: g + beta * h, task, penalty)
        updates, opt_state = optimizer.update(grads, state.opt_state, params)
        after: PyTree = optax.apply_updates(params, updates)
        return after["student"], (after, opt_state, grads)

    weights, tangent, (after, opt_state, grads) = jax.jvp(moved, (beta,), (one,), has_aux=True)
    variables = {**variables, "params": weights}
    slope = _inner(_tune_gradient(student, variables, tune, state.loss_scale), tangent)
    if state.loss_scale:
        slope = jnp.where(all_finite((grads, slope)), slope, 0)
    metrics |= joined_terms(terms, beta, batch)[1]
    ahead = state._replace(
        step=state.step + 1,
        variables=variables,
        regularizer=after["regularizer"],
        opt_state=opt_state,
    )
    ahead, metrics = guarded(state, ahead, grads, metrics)
    return LookAhead(ahead, slope, metrics)


def _tune_gradient(student: Student, variables: PyTree, tune: Batch, loss_scale: PyTree) -> PyTree:
    """Of the task loss in inference mode, as the tune split is evaluated, by the weights."""

    def tune_loss(weights: PyTree) -> jax.Array:
        output, _ = student.apply({**variables, "params": weights}, tune.inputs, False, {})
        total, count = task_metrics(output.logits, tune)["task_loss"]
        return scaled(loss_scale, total / jnp.maximum(count, 1))

    return unscaled(loss_scale, jax.grad(tune_loss)(variables["params"]))


def _inner(gradient: PyTree, tangent: PyTree) -> jax.Array:
    """<gradient, tangent>; a weight without a finite tangent takes no part.

    Adam divides by the root of a second moment. It is zero, and its derivative not finite, for a
    weight that never had a gradient, behind a ReLU that is off for every row: beta does not move
    such a weight.
    """
    parts = jax.tree.map(
        lambda g, t: jnp.sum(g * jnp.where(jnp.isfinite(t), t, jnp.zeros_like(t))),
        gradient,
        tangent,
    )
    return sum(jax.tree.leaves(parts), start=jnp.zeros(()))
