"""The step, in four layers: forward -> objective -> train_step -> the jitted wrapper.

The first three are pure and know nothing of devices; only `compile_train_step` says `jit`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from aft_jax.training.sharding import replicated, row_sharded
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


def make_train_step(
    student: Student, regularizer: Regularizer, optimizer: optax.GradientTransformation
) -> TrainStep:
    """One optimizer step as a pure function.

    Args:
        student: the student.
        regularizer: the regularizer.
        optimizer: of the tree {"student": ..., "regularizer": ...}.

    Returns:
        The step. Its metrics include "gradient_norm", as a (norm, 1) state.
    """

    def train_step(state, batch, beta, root):
        key = jax.random.fold_in(stream_key(root, "dropout"), state.step)

        def loss_of(params):
            variables = {**state.variables, "params": params["student"]}
            output, variables = forward(student, variables, batch, key)
            loss, metrics = objective(regularizer, params["regularizer"], output, batch, beta)
            return loss, (metrics, variables)

        params = trainable(state)
        grads, (metrics, variables) = jax.grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, state.opt_state, params)
        params: PyTree = optax.apply_updates(params, updates)
        new_state = TrainState(
            step=state.step + 1,
            variables={**variables, "params": params["student"]},
            regularizer=params["regularizer"],
            opt_state=opt_state,
        )
        norm = optax.tree.norm(grads)
        return new_state, metrics | {"gradient_norm": (norm, jnp.ones_like(norm))}

    return train_step


def compile_train_step(step: TrainStep, mesh: Mesh) -> TrainStep:
    """The step under jit: batch rows over the mesh, state on every device and donated."""
    everywhere, rows = replicated(mesh), row_sharded(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, rows, everywhere, everywhere),
        out_shardings=everywhere,
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
