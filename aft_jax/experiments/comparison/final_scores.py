"""The one look at the test split: every final run evaluated, its predictions kept beside it."""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aft_jax.data import Dataset
from aft_jax.errors import UsageError
from aft_jax.experiments.comparison.method_runs import FinishedRun
from aft_jax.experiments.comparison.records import Trial
from aft_jax.students import load_student
from aft_jax.training.batches import StudentData
from aft_jax.training.evaluate import predict_on
from aft_jax.training.experiment import Experiment
from aft_jax.training.metrics import MetricsWriter, read_metrics
from aft_jax.training.predictions import load_predictions, save_predictions
from aft_jax.training.sharding import on_every_device

SPLIT = "test"


def score_runs(
    experiments: Mapping[str, Experiment],
    runs: Sequence[FinishedRun],
    test: Dataset,
    workdir: pathlib.Path,
) -> tuple[Trial, ...]:
    """The final runs with their results on the test split.

    A run that was scored on these very examples is not evaluated again.

    Args:
        experiments: method -> its experiment.
        runs: the final runs.
        test: the examples.
        workdir: directory of the comparison; each run gets `predictions-test.npz` and a line in its
            metrics.

    Returns:
        One trial for each run.
    """
    read: dict[str, StudentData] = {}
    trials = []
    for run in runs:
        experiment, directory = experiments[run.method], workdir / run.directory
        accuracy = _scored(directory, test)
        if accuracy is None:
            if experiment.name not in read:
                read[experiment.name] = experiment.read(test)
            accuracy = _score(experiment, read[experiment.name], directory)
        trials.append(Trial(**run._asdict(), test=accuracy))
    return tuple(trials)


def _score(experiment: Experiment, test: StudentData, directory: pathlib.Path) -> float:
    rows, mesh = experiment.config.batch_size, experiment.mesh
    variables = on_every_device(load_student(directory).variables, mesh)
    values, predictions = predict_on(experiment.eval_step, variables, test, rows, mesh)
    save_predictions(predictions, directory, SPLIT)
    lines = _test_lines(directory)
    if not lines or lines[-1]["accuracy"] != values["accuracy"]:  # of other examples
        steps = experiment.protocol.steps
        with contextlib.closing(MetricsWriter(directory, steps)) as writer:
            writer.write(steps, SPLIT, values)
    return values["accuracy"]


def _scored(directory: pathlib.Path, test: Dataset) -> float | None:
    """The run's accuracy on these examples; None where it is not known."""
    lines = _test_lines(directory)
    if not lines:  # the last thing that is written, and gone where the run trained again
        return None
    try:
        found = load_predictions(directory, SPLIT)
    except UsageError:
        return None
    same = np.array_equal(found.ids, test.ids) and np.array_equal(found.labels, test.labels)
    return lines[-1]["accuracy"] if same else None


def _test_lines(directory: pathlib.Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(directory) if line["split"] == SPLIT]
