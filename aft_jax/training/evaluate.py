"""Evaluation over a whole split, padded rows masked, and the `evaluate` verb."""

import json
import pathlib

import jax
from jax.sharding import Mesh

from aft_jax.data import (
    ROLES,
    Dataset,
    evaluation_batches,
    load_splits,
    report_overlap,
)
from aft_jax.errors import ConfigError, DataError
from aft_jax.files import write_whole
from aft_jax.students import load_student
from aft_jax.training import metrics
from aft_jax.training.batches import StudentData, eval_batches
from aft_jax.training.methods import saved_learner
from aft_jax.training.predictions import Predictions, join_predictions, save_predictions
from aft_jax.training.sharding import data_mesh, on_every_device, row_sharded
from aft_jax.training.step import EvalStep, RowPredictions, compile_eval_step
from aft_jax.training.workdir import read_config
from aft_jax.types import PyTree


def evaluate_on(
    eval_step: EvalStep, variables: PyTree, data: StudentData, batch_size: int, mesh: Mesh
) -> dict[str, float]:
    """The student's metrics over every labelled example of a split, each counted once.

    Args:
        eval_step: the student's, compiled for the mesh.
        variables: the student's weights.
        data: the split.
        batch_size: rows of a global batch.
        mesh: the devices.

    Returns:
        "loss" (cross-entropy, nats) and "accuracy" (share of the examples), under those names.
    """
    padded = evaluation_batches(len(data.dataset), batch_size)
    batches = eval_batches(data, padded, row_sharded(mesh))
    # Waiting bounds the batches in flight; the next ones are being prepared meanwhile.
    return metrics.mean(jax.device_get(eval_step(variables, batch)[0]) for batch in batches)


def predict_on(
    eval_step: EvalStep, variables: PyTree, data: StudentData, batch_size: int, mesh: Mesh
) -> tuple[dict[str, float], Predictions]:
    """`evaluate_on`, and from the same forward passes a prediction of every example.

    Args:
        eval_step: the student's, compiled for the mesh.
        variables: the student's weights.
        data: the split.
        batch_size: rows of a global batch.
        mesh: the devices.

    Returns:
        The metrics, and the predictions in the order of the split.
    """
    padded = evaluation_batches(len(data.dataset), batch_size)
    states, rows = [], []
    for numbers, batch in zip(padded, eval_batches(data, padded, row_sharded(mesh)), strict=True):
        state, predicted = jax.device_get(eval_step(variables, batch))
        real = numbers.mask > 0
        states.append(state)
        rows.append(RowPredictions(*(array[real] for array in predicted)))
    return metrics.mean(states), join_predictions(data.dataset, rows)


def evaluate(workdir: pathlib.Path, split: str = "tune") -> dict[str, float]:
    """The `evaluate` verb: the student of a finished run on a whole split.

    Needs neither the feature stores (but for "fconcat", whose inputs they are) nor the weights that
    the student started from.

    Args:
        workdir: the run directory; the result is written to `evaluation-<split>.json` there, and
            what the student says of each example to `predictions-<split>.npz`.
        split: "train", "tune" or "test".

    Returns:
        "loss" and "accuracy".

    Raises:
        ConfigError: the split is unknown.
        DataError: the data cannot be read, or have other classes than the student.
        UsageError: the directory holds no run, or one that is not finished.
    """
    if split not in ROLES:
        raise ConfigError(f"--split is one of {', '.join(ROLES)}; got {split!r}.")
    config = read_config(workdir)
    saved = load_student(workdir)
    *others, dataset = load_splits(config.data, *ROLES[: ROLES.index(split) + 1])
    _require_classes(saved.classes, dataset)
    for other in others:
        report_overlap((other, dataset))
    devices = min(config.devices or jax.device_count(), jax.device_count())
    rows = -(-config.batch_size // devices) * devices  # padded: any number of devices will do
    mesh = data_mesh(devices, rows)
    learner = saved_learner(config, saved)
    student = learner.make(dataset.classes)
    variables = on_every_device(saved.variables, mesh)
    read = learner.read(dataset)
    eval_step = compile_eval_step(student, mesh)
    values, predictions = predict_on(eval_step, variables, read, rows, mesh)
    save_predictions(predictions, workdir, split)
    write_whole(workdir / f"evaluation-{split}.json", json.dumps(values, indent=2) + "\n")
    return values


def _require_classes(known: tuple[str, ...], dataset: Dataset) -> None:
    if known != dataset.classes:
        raise DataError(
            f"a student is evaluated on the classes it was trained for, {', '.join(known)}; "
            f"{dataset.name} now has {', '.join(dataset.classes)}. Restore the data, or train "
            "again."
        )
