"""Evaluation over a whole split, padded rows masked, and the `evaluate` verb."""

import dataclasses
import json
import pathlib

import jax

from aft_jax.config import Config
from aft_jax.data import Dataset, evaluation_batches, load_split
from aft_jax.errors import ConfigError
from aft_jax.students import load_student
from aft_jax.training import metrics
from aft_jax.training.experiment import Experiment, build, eval_batch
from aft_jax.training.sharding import replicated
from aft_jax.types import PyTree


def evaluate_on(experiment: Experiment, variables: PyTree, dataset: Dataset) -> dict[str, float]:
    """The student's metrics over every example of a split, each counted once.

    Args:
        experiment: the run.
        variables: the student's weights.
        dataset: the split.

    Returns:
        "loss" (cross-entropy, nats) and "accuracy" (share of the examples), under those names.
    """
    states = [
        experiment.eval_step(variables, eval_batch(experiment, dataset, *padded))
        for padded in evaluation_batches(len(dataset), experiment.config.batch_size)
    ]
    values = metrics.mean(jax.device_get(states))
    return {"loss": values["loss"], "accuracy": values["accuracy"]}


def evaluate(config: Config, workdir: pathlib.Path, split: str = "test") -> dict[str, float]:
    """Evaluates the student of a finished run.

    Args:
        config: the run's config.
        workdir: its directory; the result is written to `evaluation-<split>.json` there.
        split: "train", "tune" or "test".

    Returns:
        "loss" and "accuracy".

    Raises:
        ConfigError: the split is unknown.
        UsageError: the run has no student.
    """
    if split not in ("train", "tune", "test"):
        raise ConfigError(f"--split is one of train, tune, test; got {split!r}.")
    experiment = build(without_teachers(config))
    saved = load_student(workdir)
    variables = jax.device_put(saved.variables, replicated(experiment.mesh))
    data = config.data
    dataset = load_split(data.source, getattr(data, split), data.task)
    values = evaluate_on(experiment, variables, dataset)
    (workdir / f"evaluation-{split}.json").write_text(json.dumps(values, indent=2) + "\n")
    return values


def without_teachers(config: Config) -> Config:
    """The same run as plain fine-tuning, for what needs no stores."""
    return dataclasses.replace(config, method="stl", method_options={})
