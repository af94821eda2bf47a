"""The step, in four layers: forward -> objective -> train_step -> the jitted wrappers.

The first three are pure; only the functions named `compile_...` say `jit`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from aft_jax.training.loss_scale import guarded, scaled, unscaled
from aft_jax.training.sharding import replicated, row_sharded, stacked_rows
from aft_jax.training.state import TrainState, stream_key, trainable
from aft_jax.types import Batch, Metrics, PyTree, Regularizer, Student, StudentOutput

TrainStep = Callable[[TrainState, Batch, jax.Array, jax.Array], tuple[TrainState, Metrics]]
"""(state, batch, beta, root key) -> (new state, metrics of the batch)."""


class RowPredictions(NamedTuple):
    """What the student says of each row of a batch, padding included.

    Attributes:
        predicted: [b] int32, the class of the largest logit.
        confidence: [b] float32, its probability.
        label_log_probability: [b] float32, nats, of the row's label; of class 0 without a label.
    """

    predicted: jax.Array
    confidence: jax.Array
    label_log_probability: jax.Array


EvalStep = Callable[[PyTree, Batch], tuple[Metrics, RowPredictions]]
"""(student variables, batch) -> (metrics of the batch, predictions of its rows)."""


def forward(
    student: Student, variables: PyTree, batch: Batch, key: jax.Array
) -> tuple[StudentOutput, PyTree]:
    """The student in training mode on a batch; `key` seeds its dropout."""
    return student.apply(variables, batch.inputs, True, {"dropout": key})


def task_metrics(logits: jax.Array, batch: Batch) -> Metrics:
    """Cross-entropy and accuracy as (sum, count) over the labelled rows that are not padding."""
    labelled = batch.mask * (batch.labels >= 0).astype(batch.mask.dtype)
    labels = jnp.maximum(batch.labels, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = (jnp.argmax(logits, axis=-1) == labels).astype(losses.dtype)
    count = jnp.sum(labelled)
    return {
        "task_loss": (jnp.sum(losses * labelled), count),
        "accuracy": (jnp.sum(correct * labelled), count),
    }


class Terms(NamedTuple):
    """The two terms of the objective.

    Attributes:
        task: mean cross-entropy of the labelled rows.
        penalty: what beta multiplies.
    """

    task: jax.Array
    penalty: jax.Array


def objective_terms(
    regularizer: Regularizer, params: PyTree, output: StudentOutput, batch: Batch
) -> tuple[Terms, Metrics]:
    """Task loss and regularizer apart, and the metrics of both."""
    metrics = task_metrics(output.logits, batch)
    total, count = metrics["task_loss"]
    penalty, penalty_metrics = regularizer.apply(
        params,
        output.features,
        batch.teacher_features,
        mask=batch.feature_mask,
        logits=output.logits,
    )
    if batch.teacher_features:
        metrics["rows_with_features"] = (jnp.sum(batch.feature_mask), jnp.sum(batch.mask))
    return Terms(total / jnp.maximum(count, 1), penalty), metrics | penalty_metrics


def joined_terms(terms: Terms, beta: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
    """Task loss + beta * regularizer, and the sum as a metric."""
    loss = terms.task + beta * terms.penalty
    rows = jnp.sum(batch.mask)
    return loss, {"loss": (loss * rows, rows)}


def objective(
    regularizer: Regularizer,
    params: PyTree,
    output: StudentOutput,
    batch: Batch,
    beta: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """Task loss + beta * regularizer, and the metrics of both."""
    terms, metrics = objective_terms(regularizer, params, output, batch)
    loss, total = joined_terms(terms, beta, batch)
    return loss, metrics | total


class Gradients(NamedTuple):
    """What a step learns of its batch.

    Attributes:
        grads: of the objective, scaled, for the tree that the optimizer updates.
        metrics: of the batch.
        variables: the student's, with the batch statistics that the batch leaves.
    """

    grads: PyTree
    metrics: Metrics
    variables: PyTree


GradientsOf = Callable[[TrainState, Batch, jax.Array, jax.Array], Gradients]
"""(state, batch, beta, key of the step's dropout) -> gradients."""


def whole_batch(student: Student, regularizer: Regularizer) -> GradientsOf:
    """The gradients from one pass over the batch."""

    def gradients(state, batch, beta, key):
        def loss_of(params):
            variables = {**state.variables, "params": params["student"]}
            output, variables = forward(student, variables, batch, key)
            loss, metrics = objective(regularizer, params["regularizer"], output, batch, beta)
            return scaled(state.loss_scale, loss), (metrics, variables)

        grads, (metrics, variables) = jax.grad(loss_of, has_aux=True)(trainable(state))
        return Gradients(grads, metrics, variables)

    return gradients


def make_train_step(gradients: GradientsOf, optimizer: optax.GradientTransformation) -> TrainStep:
    """One optimizer step as a pure function.

    Args:
        gradients: of a batch.
        optimizer: of the tree {"student": ..., "regularizer": ...}.

    Returns:
        The step. Its metrics include those of `loss_scale.guarded`.
    """

    def train_step(state, batch, beta, root):
        key = jax.random.fold_in(stream_key(root, "dropout"), state.step)
        grads, metrics, variables = gradients(state, batch, beta, key)
        grads, params = unscaled(state.loss_scale, grads), trainable(state)
        updates, opt_state = optimizer.update(grads, state.opt_state, params)
        params: PyTree = optax.apply_updates(params, updates)
        new_state = state._replace(
            step=state.step + 1,
            variables={**variables, "params": params["student"]},
            regularizer=params["regularizer"],
            opt_state=opt_state,
        )
        return guarded(state, new_state, grads, metrics)

    return train_step


def compile_train_step(step: TrainStep, mesh: Mesh, state: PyTree = None) -> TrainStep:
    """One step on one batch under jit: batch rows over the mesh, the state donated.

    Args:
        step: the step.
        mesh: the devices.
        state: shardings of the state; None for all of it on every device.

    Returns:
        The step.
    """
    everywhere, rows = replicated(mesh), row_sharded(mesh)
    placed = everywhere if state is None else state
    return jax.jit(
        step,
        in_shardings=(placed, rows, everywhere, everywhere),
        out_shardings=(placed, everywhere),
        donate_argnums=0,
    )


TrainCall = Callable[[TrainState, PyTree, PyTree, jax.Array, jax.Array], tuple[TrainState, Metrics]]
"""(state, tables, picks of k steps, beta, root key) -> (state k steps later, metrics [k])."""


def compile_train_call(
    step: TrainStep, gather: Callable[[PyTree, PyTree], Batch], mesh: Mesh, state: PyTree
) -> TrainCall:
    """Several steps in one compiled call: the host is asked once, and waits for none of them.

    Args:
        step: the step.
        gather: as in `aft_jax.training.feed.Feed`.
        mesh: the devices.
        state: shardings of the state, which is donated.

    Returns:
        The call; it compiles once for each number of steps.
    """
    everywhere, rows = replicated(mesh), row_sharded(mesh)

    def call(state, tables, picks, beta, root):
        def body(state, picked):
            batch = jax.lax.with_sharding_constraint(gather(tables, picked), rows)
            return step(state, batch, beta, root)

        if len(jax.tree.leaves(picks)[0]) > 1:
            return jax.lax.scan(body, state, picks)
        # No loop of one: on a CPU, XLA's convolutions take twice as long inside of loops.
        state, metrics = body(state, jax.tree.map(lambda leaf: leaf[0], picks))
        return state, jax.tree.map(lambda leaf: leaf[None], metrics)

    return jax.jit(
        call,
        in_shardings=(state, everywhere, stacked_rows(mesh), everywhere, everywhere),
        out_shardings=(state, everywhere),
        donate_argnums=0,
    )


def row_predictions(logits: jax.Array, labels: jax.Array) -> RowPredictions:
    """Each row's class, its probability, and the log-probability of the row's label.

    Args:
        logits: [b, k].
        labels: [b]; -1 for a row without label.

    Returns:
        The predictions; no array of theirs has a class axis.
    """
    logs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    known = jnp.maximum(labels, 0)
    return RowPredictions(
        predicted=jnp.argmax(logits, axis=-1).astype(jnp.int32),
        confidence=jnp.exp(jnp.max(logs, axis=-1)),
        label_log_probability=jnp.take_along_axis(logs, known[:, None], axis=-1)[:, 0],
    )


def evaluation_metrics(logits: jax.Array, batch: Batch) -> Metrics:
    """The task's metrics under the names of an evaluation: "loss" and "accuracy"."""
    metrics = task_metrics(logits, batch)
    return {"loss": metrics["task_loss"], "accuracy": metrics["accuracy"]}


def compile_eval_step(student: Student, mesh: Mesh) -> EvalStep:
    """The student in inference mode under jit: the task's metrics, and a prediction a row."""

    def eval_step(variables, batch):
        output, _ = student.apply(variables, batch.inputs, False, {})
        predictions = row_predictions(output.logits, batch.labels)
        return evaluation_metrics(output.logits, batch), predictions

    everywhere, rows = replicated(mesh), row_sharded(mesh)
    return jax.jit(eval_step, in_shardings=(everywhere, rows), out_shardings=everywhere)
