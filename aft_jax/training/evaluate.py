"""Evaluation over a whole split, padded rows masked, and the `evaluate` verb."""

import dataclasses
import json
import pathlib

import jax

from aft_jax.data import evaluation_batches, load_split, prefetched, report_overlap
from aft_jax.errors import ConfigError
from aft_jax.files import write_whole
from aft_jax.students import load_student
from aft_jax.training import metrics
from aft_jax.training.batches import THREADS, StudentData, eval_batch, read_by_student
from aft_jax.training.experiment import Experiment, build
from aft_jax.training.sharding import replicated, row_sharded
from aft_jax.training.workdir import read_config
from aft_jax.types import PyTree


def evaluate_on(experiment: Experiment, variables: PyTree, data: StudentData) -> dict[str, float]:
    """The student's metrics over every labelled example of a split, each counted once.

    Args:
        experiment: the run.
        variables: the student's weights.
        data: the split.

    Returns:
        "loss" (cross-entropy, nats) and "accuracy" (share of the examples), under those names.
    """
    padded = evaluation_batches(len(data.dataset), experiment.config.batch_size)
    rows = row_sharded(experiment.mesh)
    batches = prefetched(
        lambda number: eval_batch(data, padded[number], rows), 0, len(padded), THREADS, THREADS
    )
    # Waiting bounds the batches in flight; the next ones are being prepared meanwhile.
    return metrics.mean(jax.device_get(experiment.eval_step(variables, batch)) for batch in batches)


def evaluate(workdir: pathlib.Path, split: str = "tune") -> dict[str, float]:
    """The `evaluate` verb: the student of a finished run on a whole split.

    Args:
        workdir: the run directory; the result is written to `evaluation-<split>.json` there.
        split: "train", "tune" or "test".

    Returns:
        "loss" and "accuracy".

    Raises:
        ConfigError: the split is unknown.
        UsageError: the directory holds no run, or one that is not finished.
    """
    if split not in ("train", "tune", "test"):
        raise ConfigError(f"--split is one of train, tune, test; got {split!r}.")
    config = read_config(workdir)
    # Evaluation needs neither the stores nor the weights that the student started from.
    student = dataclasses.replace(config.student, init_from="")
    config = dataclasses.replace(config, student=student, method="stl", method_options={})
    experiment = build(config)
    variables = jax.device_put(load_student(workdir).variables, replicated(experiment.mesh))
    dataset = load_split(config.data, split)
    known = experiment.train.dataset, experiment.tune.dataset
    report_overlap((*known, dataset) if split == "test" else known)
    values = evaluate_on(experiment, variables, read_by_student(config, dataset))
    write_whole(workdir / f"evaluation-{split}.json", json.dumps(values, indent=2) + "\n")
    return values
