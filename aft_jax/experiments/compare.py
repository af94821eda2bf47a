"""The `compare` verb: methods under one protocol, with paired seeds.

    1. Every method that has a beta chooses it: grid x search seeds, best mean accuracy on tune.
    2. Every method trains once per seed at its beta; equal seeds share initial weights and the
       order of the data.
    3. Only then is the test split loaded, and every student of step 2 evaluated on it once.

Each training run has its own directory, so an interrupted comparison resumes where it stopped.
"""

import contextlib
import dataclasses
import importlib.metadata
import logging
import pathlib
import platform
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import aft_jax
from aft_jax.config import Config
from aft_jax.data import Dataset, load_split, report_overlap
from aft_jax.experiments import records
from aft_jax.experiments.diagnose import diagnose
from aft_jax.experiments.statistics import tune_by_beta, verdict
from aft_jax.features import TeacherFeatures, has_store, read_manifest, store_path
from aft_jax.progress import progress_bar
from aft_jax.students import load_student
from aft_jax.training import workdir as run_directory
from aft_jax.training.batches import StudentData, read_by_student, teacher_features
from aft_jax.training.evaluate import evaluate_on
from aft_jax.training.experiment import Experiment, RunData, build
from aft_jax.training.metrics import MetricsWriter
from aft_jax.training.sharding import replicated
from aft_jax.training.trainer import fit

_LOG = logging.getLogger(__name__)


class FinishedRun(NamedTuple):
    """One training run, before the test split is looked at.

    Attributes:
        method: regularizer name.
        beta: its strength.
        seed: of the run.
        tune: accuracy on the tune split.
        directory: the run's, relative to the comparison's.
        seconds: wall-clock time since it last started or resumed.
        parameters: of the student.
    """

    method: str
    beta: float
    seed: int
    tune: float
    directory: str
    seconds: float
    parameters: int


def compare(config: Config, workdir: pathlib.Path) -> str:
    """Runs the comparison that `config.compare` describes, or what is left of it.

    Args:
        config: the config; its own method, seed and beta are not used.
        workdir: directory of the comparison; `comparison.json` and `diagnostics.npz` are written
            there.

    Returns:
        The verdict, one sentence.

    Raises:
        ConfigError: a method is unknown, or the directory belongs to another config.
        StoreError: a feature store is missing or does not fit.
    """
    run_directory.check(workdir, config)
    if (workdir / records.FILE_NAME).exists():
        return verdict(records.load(workdir))
    experiments = _build(config)
    run_directory.claim(workdir, config)
    searched = [m for m, experiment in experiments.items() if experiment.regularizer.reads_teachers]
    # Read before training: a damaged store is found now, not by the pictures at the end.
    teachers = _teacher_facts(experiments[searched[0]]) if searched else {}
    tune_features = _tune_features(experiments[searched[0]]) if searched else None
    plan = config.compare
    search_runs = len(searched) * len(plan.betas) * len(plan.search_seeds)
    steps = (search_runs + len(experiments) * len(plan.seeds)) * config.steps
    with progress_bar(steps, f"compare {workdir}", "step") as bar:
        search = tuple(
            trial for method in searched for trial in _search(experiments[method], workdir, bar)
        )
        chosen = {method: choose_beta(search, method) for method in searched}
        runs = [
            _train(experiments[method], chosen.get(method, 0.0), seed, workdir, bar)
            for seed in plan.seeds
            for method in experiments
        ]
    first_runs = {run.method: workdir / run.directory for run in reversed(runs)}
    diagnose(experiments, first_runs, tune_features, workdir)
    test = load_split(config.data, "test")
    comparison = records.Comparison(
        **_facts(config, experiments, test, runs[0].parameters),
        teachers=teachers,
        beta_search=search,
        chosen_beta=chosen,
        trials=tuple(_test(experiments, runs, read_by_student(config, test), workdir)),
    )
    records.save(comparison, workdir)
    return verdict(comparison)


def _build(config: Config) -> dict[str, Experiment]:
    """An experiment for each method; they share the data and the teachers' features."""
    data, features, experiments = None, None, {}
    for method in config.compare.methods:
        experiment = build(_for_method(config, method), data, features)
        data = RunData(experiment.train, experiment.tune)
        features = experiment.features or features
        experiments[method] = experiment
    return experiments


def _tune_features(experiment: Experiment) -> TeacherFeatures | None:
    """The teachers' features of the tune split, or None where they were never extracted."""
    config, tune = experiment.config, experiment.tune.dataset
    if not all(has_store(store_path(config, name, tune.split)) for name in config.teachers):
        _LOG.warning("no stores of the tune split: the report will have no pictures of kernels")
        return None
    # Pictures need no division of the rows over devices.
    return teacher_features(config, tune, replicated(experiment.mesh))


def _teacher_facts(experiment: Experiment) -> dict[str, records.TeacherFacts]:
    facts: dict[str, records.TeacherFacts] = {}
    for name in experiment.config.teachers:
        manifest = read_manifest(
            store_path(experiment.config, name, experiment.train.dataset.split)
        )
        facts[name] = {
            "id": manifest.teacher_id,
            "parameters": manifest.teacher_parameters,
            "width": manifest.shape[1],
        }
    return facts


def choose_beta(search: tuple[records.BetaTrial, ...], method: str) -> float:
    """The beta with the best mean on the tune split; of equal ones the smallest.

    Args:
        search: the runs of the search.
        method: whose beta.

    Returns:
        The beta.
    """
    means = {beta: scores.mean for beta, scores in tune_by_beta(search, method).items()}
    return max(sorted(means), key=lambda beta: means[beta])


def _for_method(config: Config, method: str) -> Config:
    """The config with another method; `method_options` are those of the config's own method."""
    options = config.method_options if method == config.method else {}
    return dataclasses.replace(config, method=method, method_options=options)


def _search(experiment: Experiment, workdir: pathlib.Path, bar: tqdm) -> list[records.BetaTrial]:
    plan = experiment.config.compare
    runs = [
        _train(experiment, beta, seed, workdir, bar)
        for beta in plan.betas
        for seed in plan.search_seeds
    ]
    return [records.BetaTrial(run.method, run.beta, run.seed, run.tune) for run in runs]


def _train(
    experiment: Experiment, beta: float, seed: int, workdir: pathlib.Path, bar: tqdm
) -> FinishedRun:
    config = experiment.config
    # A run of a comparison is short and resumes from its start: one checkpoint, at the end.
    config = dataclasses.replace(config, seed=seed, beta=beta, checkpoint_every=config.steps)
    directory = f"trials/{config.method}-beta{beta:g}-seed{seed}"
    run_directory.claim(workdir / directory, config)
    result = run_directory.result(workdir / directory)
    if result is None:
        result = fit(experiment, config, workdir / directory, bar)
    else:
        bar.update(config.steps)
    return FinishedRun(
        method=config.method,
        beta=beta,
        seed=seed,
        tune=result["tune"]["accuracy"],
        directory=directory,
        seconds=result["seconds"],
        parameters=result["parameters"],
    )


def _test(
    experiments: Mapping[str, Experiment],
    runs: list[FinishedRun],
    test: StudentData,
    workdir: pathlib.Path,
) -> list[records.Trial]:
    """The final runs with their results on the test split."""
    steps = experiments[runs[0].method].config.steps
    trials = []
    for run in runs:
        experiment, directory = experiments[run.method], workdir / run.directory
        variables = jax.device_put(load_student(directory).variables, replicated(experiment.mesh))
        rows, mesh = experiment.config.batch_size, experiment.mesh
        values = evaluate_on(experiment.eval_step, variables, test, rows, mesh)
        with contextlib.closing(MetricsWriter(directory, steps)) as writer:
            writer.write(steps, "test", values)
        trials.append(
            records.Trial(
                method=run.method,
                beta=run.beta,
                seed=run.seed,
                test=values["accuracy"],
                tune=run.tune,
                directory=run.directory,
                seconds=run.seconds,
            )
        )
    return trials


def _facts(
    config: Config, experiments: Mapping[str, Experiment], test: Dataset, parameters: int
) -> dict[str, Any]:
    """What was compared on what, for the record."""
    experiment = next(iter(experiments.values()))
    train, tune = experiment.train.dataset, experiment.tune.dataset
    sizes = {"train": len(train), "tune": len(tune), "test": len(test)}
    shared = report_overlap((train, test)) | report_overlap((tune, test))
    return {
        "dataset": {
            "name": train.name,
            "version": train.version,
            "splits": sizes,
            "num_classes": len(train.classes),
            "overlap": shared,
            "skipped": {part.split: list(part.skipped) for part in (train, test) if part.skipped},
        },
        "student": {
            "name": config.student.name,
            "parameters": parameters,
            "init_from": config.student.init_from or config.student.pretrained or None,
        },
        "metric": "accuracy",
        "environment": environment(),
    }


def environment() -> dict[str, str]:
    """Versions and devices, for the record."""
    devices = jax.devices()
    return {
        "aft_jax": aft_jax.__version__,
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{devices[0].device_kind} x {len(devices)}",
    }
