import dataclasses
import json

import numpy as np
import pytest

from aft_jax.config import read_inputs
from aft_jax.config.defaults import base_config
from aft_jax.experiments.comparison.records import BetaTrial, Comparison, Trial, save
from aft_jax.features import extract
from aft_jax.students import save_student
from aft_jax.training.predictions import Predictions, save_predictions
from tests.experiments.sweeps import sweep_config

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
INPUTS = read_inputs(base_config().inputs.to_dict())


def trials_of(method, beta, tests):
    return tuple(
        Trial(
            method,
            beta,
            seed,
            test,
            test - 0.01,
            f"trials/{method}-seed{seed}",
            1.5 + 9 * (not seed),
            steps_per_second=100.0,
            parameters=4321,
        )
        for seed, test in enumerate(tests)
    )


@pytest.fixture(scope="session")
def comparison():
    """Differences of 1, 2 and 3 points: mean 2, 95 % interval -0.48 to +4.48."""
    return Comparison(
        dataset={
            "name": "digits",
            "version": "1.9",
            "splits": {"train": 100, "tune": 200, "test": 600},
            "num_classes": 10,
            "overlap": {},
            "skipped": {},
        },
        student={"name": "small_cnn", "parameters": 4321, "init_from": "runs/digits/pretrain"},
        teachers={
            "wide_cnn": {
                "id": "flax:wide",
                "revision": "",
                "weights_sha256": "ab12",
                "parameters": 43210,
                "width": 128,
                "stores": {
                    "train": {
                        "rows": 100,
                        "ids_sha256": "cd34",
                        "manifest_sha256": "ef56",
                        "extraction_seconds": 12.5,
                    }
                },
            }
        },
        config_sha256="0123",
        method_options={"stl": {}, "aft": {}},
        metric="accuracy",
        environment={"jax": "0.10.2", "python": "3.11.7", "device": "cpu x 1"},
        beta_search=tuple(
            BetaTrial("aft", beta, seed, tune + 0.01 * seed)
            for beta, tune in ((1.0, 0.80), (3.0, 0.84), (10.0, 0.82))
            for seed in range(2)
        ),
        chosen_beta={"aft": 3.0},
        trials=trials_of("stl", 0.0, [0.9, 0.9, 0.9]) + trials_of("aft", 3.0, [0.91, 0.92, 0.93]),
        failed_trials=(),
        failed_methods={},
    )


@pytest.fixture(scope="session")
def with_trials(comparison):
    """Makes the comparison of these methods: name -> test accuracies by seed."""

    def make(**scores):
        trials = [
            trial
            for method, tests in scores.items()
            for trial in trials_of(method, 0.0 if method == "stl" else 3.0, tests)
        ]
        chosen = {method: 3.0 for method in scores if method != "stl"}
        return dataclasses.replace(comparison, trials=tuple(trials), chosen_beta=chosen)

    return make


@pytest.fixture(scope="session")
def write_run():
    """Writes the directory that `aft-jax compare` leaves for a comparison."""

    def write(workdir, comparison, diagnostics=True):
        save(comparison, workdir)
        config = {"seed": 0, "optimizer": {"name": "adam", "schedule": {"warmup": 20}}}
        (workdir / "config.json").write_text(json.dumps(config))
        for trial in comparison.trials:
            write_metrics(workdir / trial.directory, trial)
        if diagnostics:
            same = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], np.float32)
            np.savez(
                workdir / "diagnostics.npz",
                **{
                    "kernel/labels": np.array([0, 0, 1, 1]),
                    "kernel/teacher": same,
                    "kernel/start": np.zeros((4, 4), np.float32),
                    "kernel/stl": np.eye(4, dtype=np.float32),
                    "kernel/aft": same,
                    "gates/wide_cnn": np.array([0.25, 0.5, 0.625, 0.75], np.float32),
                    "gates/narrow": np.array([0.5, 0.25], np.float32),
                    "share/wide_cnn": np.float64(0.75),
                    "share/narrow": np.float64(0.25),
                    "without/wide_cnn": np.eye(4, dtype=np.float32),
                    "without/narrow": same,
                },
            )
        return workdir

    return write


def write_metrics(directory, trial):
    regularizer = [0.4, 0.1] if trial.method == "aft" else [0.0, 0.0]
    rows = [{"step": 0, "split": "tune", "loss": 2.0, "accuracy": 0.5}]
    speed = 60 if trial.method == "aft" else 80
    rows += [
        {
            "step": 50 * (index + 1),
            "split": "train",
            "loss": 1.0,
            "regularizer": value,
            "steps_per_second": speed + 40 * index,
        }
        for index, value in enumerate(regularizer)
    ]
    rows.append({"step": 100, "split": "tune", "loss": 0.5, "accuracy": trial.tune})
    rows.append({"step": 100, "split": "test", "loss": 0.5, "accuracy": trial.test})
    directory.mkdir(parents=True)
    lines = [json.dumps(row) for row in rows]
    (directory / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def write_predictions(directory, labels, predicted, confidence, split="test"):
    """What `evaluate` leaves of a student of the classes "zero" to "nine"."""
    rows = len(labels)
    directory.mkdir(parents=True, exist_ok=True)
    predictions = Predictions(
        ids=np.array([f"id{row}" for row in range(rows)]),
        labels=np.array(labels, np.int32),
        predicted=np.array(predicted, np.int32),
        confidence=np.array(confidence, np.float32),
        label_log_probability=np.full(rows, -0.5, np.float32),
    )
    save_predictions(predictions, directory, split)
    save_student(directory, "small_cnn", CLASSES, {}, INPUTS, {"params": {}})


@pytest.fixture(scope="module")
def sweep_root(tmp_path_factory):
    """A directory with the stores of a sweep's teachers."""
    root = tmp_path_factory.mktemp("sweeps")
    extract(sweep_config(root))
    return root
