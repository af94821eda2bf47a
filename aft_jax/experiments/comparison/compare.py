"""The `compare` verb: methods under one protocol, with paired seeds.

    1. Every method that has a beta chooses it: grid x search seeds, best mean accuracy on tune.
    2. Every method trains once per seed at its beta; equal seeds share initial weights and the
       order of the data.
    3. Only then is the test split loaded, and every student of step 2 evaluated on it once.

Each training run has its own directory, so an interrupted comparison resumes where it stopped.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping

from aft_jax.config import Config
from aft_jax.data import load_split
from aft_jax.errors import UsageError
from aft_jax.experiments.comparison import records
from aft_jax.experiments.comparison.final_scores import score_runs
from aft_jax.experiments.comparison.method_runs import FinishedRun, planned_steps, train_methods
from aft_jax.experiments.comparison.table import summarise
from aft_jax.experiments.facts import dataset_facts, environment, student_facts, teacher_facts
from aft_jax.experiments.reporting.diagnose import diagnose
from aft_jax.features import TeacherFeatures, has_store, store_path
from aft_jax.files import sha256_of
from aft_jax.progress import progress_bar
from aft_jax.training import workdir as run_directory
from aft_jax.training.batches import teacher_features
from aft_jax.training.experiment import Experiment, build
from aft_jax.training.methods import LEARNERS
from aft_jax.training.sharding import replicated

_LOG = logging.getLogger(__name__)


def compare(config: Config, workdir: pathlib.Path) -> str:
    """Runs the comparison that `config.compare` describes, or what is left of it.

    Args:
        config: the config; its own method, seed and beta are not used.
        workdir: directory of the comparison; `comparison.json` and `diagnostics.npz` are written
            there.

    Returns:
        The table of methods and the verdict, lines of text.

    Raises:
        ConfigError: a method is unknown, or the directory belongs to another config.
        StoreError: a feature store is missing or does not fit.
        UsageError: no method finished.
    """
    run_directory.check(workdir, config, "compare")
    finished = _finished(workdir)
    if finished is not None:
        return summarise(finished, workdir)
    experiments = _build(config)
    run_directory.claim(workdir, config, "compare")
    # Read before training: a damaged store is found now, not by the pictures at the end.
    teachers = _teachers(experiments)
    tune_features = _tune_features(experiments)
    with progress_bar(planned_steps(experiments), f"compare {workdir}", "step") as bar:
        training = train_methods(experiments, workdir, bar)
    _diagnose(experiments, training.runs, tune_features, workdir)
    data = next(iter(experiments.values())).data
    test = load_split(config.data, "test")
    comparison = records.Comparison(
        dataset=dataset_facts(data.train.dataset, data.tune.dataset, test),
        student=student_facts(config, _parameters(experiments, training.runs)),
        teachers=teachers,
        config_sha256=sha256_of(workdir / run_directory.CONFIG),
        method_options={name: part.config.method_options for name, part in experiments.items()},
        metric="accuracy",
        environment=environment(),
        beta_search=training.search,
        chosen_beta=training.chosen_beta,
        trials=score_runs(experiments, training.runs, test, workdir),
        failed_trials=training.failed_trials,
        failed_methods=training.failed_methods,
    )
    records.save(comparison, workdir)
    return summarise(comparison, workdir)


def _finished(workdir: pathlib.Path) -> records.Comparison | None:
    """The comparison that this directory holds, unless something of it is to be done (again)."""
    if not (workdir / records.FILE_NAME).exists():
        return None
    try:
        found = records.load(workdir)
    except UsageError as error:
        _LOG.warning("%s Its finished runs are kept.", error)
        return None
    return None if found.failed_trials else found


def _build(config: Config) -> dict[str, Experiment]:
    """An experiment for each method; they share the data, the teachers' features and the student.

    All are built before any trains: a mistake in the config of one is found now.
    """
    experiments: dict[str, Experiment] = {}
    data, features, shared = None, None, None
    for method in config.compare.methods:
        try:
            experiment = build(_for_method(config, method), data, features)
        except UsageError as error:
            raise type(error)(f"{method!r} in config.compare.methods: {error}") from error
        data, features = experiment.data, experiment.features or features
        if _trains_student(experiment):
            shared = shared or experiment
            # One copy of the starting weights, and one program that evaluates.
            experiment = dataclasses.replace(
                experiment,
                start=shared.start,
                weights=shared.weights,
                student=shared.student,
                eval_step=shared.eval_step,
            )
        experiments[method] = experiment
    return experiments


def _for_method(config: Config, method: str) -> Config:
    """The config with another method and its options, see `CompareConfig.method_options`."""
    own = config.method_options if method == config.method else {}
    options = config.compare.method_options.get(method, own)
    return dataclasses.replace(config, method=method, method_options=options)


def _trains_student(experiment: Experiment) -> bool:
    """Whether the config's student is what trains; other learners read inputs of their own."""
    return experiment.train is experiment.data.train


def _teachers(experiments: Mapping[str, Experiment]) -> dict[str, records.TeacherFacts]:
    """The teachers whose stores some method reads; those of test are inputs of learners alone."""
    first = next(iter(experiments.values()))
    splits = [first.data.train.dataset.split, first.data.tune.dataset.split]
    if any(name in LEARNERS and LEARNERS[name].reads_stores for name in experiments):
        splits.append(first.config.data.test)
    elif not any(part.has_beta for part in experiments.values()):
        return {}
    return teacher_facts(first.config, dict.fromkeys(splits))


def _tune_features(experiments: Mapping[str, Experiment]) -> TeacherFeatures | None:
    """The teachers' features of the tune split, or None where no method, or no store, has any."""
    transfers = [part for part in experiments.values() if part.features is not None]
    if not transfers:
        return None
    config, tune = transfers[0].config, transfers[0].data.tune.dataset
    if not all(has_store(store_path(config, name, tune.split)) for name in config.teachers):
        _LOG.warning("no stores of the tune split: the report will have no pictures of kernels")
        return None
    # Pictures need no division of the rows over devices.
    return teacher_features(config, tune, replicated(transfers[0].mesh))


def _diagnose(
    experiments: Mapping[str, Experiment],
    runs: tuple[FinishedRun, ...],
    tune_features: TeacherFeatures | None,
    workdir: pathlib.Path,
) -> None:
    """Keeps gates and kernels of the first run of every method that trains the student."""
    first_runs = {
        run.method: workdir / run.directory
        for run in reversed(runs)
        if _trains_student(experiments[run.method])
    }
    shown = {method: experiments[method] for method in experiments if method in first_runs}
    if shown:
        diagnose(shown, first_runs, tune_features, workdir)


def _parameters(experiments: Mapping[str, Experiment], runs: tuple[FinishedRun, ...]) -> int:
    """Of the student; of what trained instead where no method trains it."""
    students = [run for run in runs if _trains_student(experiments[run.method])]
    return (students or runs)[0].parameters
