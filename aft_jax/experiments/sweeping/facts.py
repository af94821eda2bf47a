"""From the trials of a sweep to its record: what was chosen, and what its students do on test."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aft_jax.config import Config
from aft_jax.data import load_split
from aft_jax.experiments.comparison.final_scores import score_runs
from aft_jax.experiments.comparison.method_runs import FinishedRun
from aft_jax.experiments.facts import dataset_facts, environment, student_facts, teacher_facts
from aft_jax.experiments.sweeping import records
from aft_jax.experiments.sweeping.data import SharedData
from aft_jax.experiments.sweeping.plan import PlannedTrial, trial_config
from aft_jax.experiments.sweeping.scores import Setting
from aft_jax.files import sha256_of
from aft_jax.training import workdir as run_directory
from aft_jax.training.group import Outcome
from aft_jax.training.metrics import steps_per_second
from aft_jax.training.tuner import FILE as BETAS
from aft_jax.training.tuner import Schedule, load_schedule


class Search(NamedTuple):
    """A sweep whose setting is chosen.

    Attributes:
        config: the sweep's.
        workdir: its directory.
        data: what its trials share.
        planned: the trials that choose.
        trials: those of them that finished.
        chosen: the setting.
    """

    config: Config
    workdir: pathlib.Path
    data: SharedData
    planned: Sequence[PlannedTrial]
    trials: tuple[records.SweepTrial, ...]
    chosen: Setting


def scored_on_tune(
    planned: Sequence[PlannedTrial], ends: Mapping[str, Outcome], workdir: pathlib.Path
) -> tuple[records.SweepTrial, ...]:
    """The trials that finished, with their results on the tune split.

    Args:
        planned: the trials that choose.
        ends: directory of a trial -> how it ended.
        workdir: directory of the sweep.

    Returns:
        The trials.
    """
    trials = []
    for trial in planned:
        result = ends[trial.directory].result
        if result is None:
            continue
        moved = _schedule(workdir / trial.directory)
        trials.append(
            records.SweepTrial(
                teachers=trial.teachers,
                beta=trial.beta,
                seed=trial.seed,
                tune=result["tune"]["accuracy"],
                end_beta=moved.betas[-1] if moved else trial.beta,
                directory=trial.directory,
                seconds=result["seconds"],
            )
        )
    return tuple(trials)


def record_of(
    search: Search, students: Sequence[PlannedTrial], ends: Mapping[str, Outcome]
) -> records.Sweep:
    """The whole record; loads the test split and evaluates the students on it.

    Args:
        search: the sweep.
        students: the runs whose students are final; those that failed are left out.
        ends: directory of any trial -> how it ended.

    Returns:
        The record.
    """
    config, workdir, data = search.config, search.workdir, search.data
    lost = _lost(search, students, ends)
    students = [student for student in students if ends[student.directory].result]
    experiment = data.experiment(trial_config(config, students[0]), students[0].joined)
    runs = [_finished_run(search, student, ends) for student in students]
    test = load_split(config.data, "test")
    train, tune = data.data.train.dataset, data.data.tune.dataset
    moved = {student.directory: _schedule(workdir / student.directory) for student in students}
    return records.Sweep(
        method=config.method,
        method_options=config.method_options,
        tuner=config.sweep.tuner,
        teacher_sets={trial.teachers: trial.names for trial in search.planned},
        dataset=dataset_facts(train, tune, test),
        student=student_facts(config, runs[0].parameters),
        teachers=teacher_facts(_with_named(search), (train.split, tune.split)),
        config_sha256=sha256_of(workdir / run_directory.CONFIG),
        metric="accuracy",
        environment=environment(),
        trials=search.trials,
        failed=lost,
        chosen=records.Chosen(search.chosen.teachers, search.chosen.beta),
        retrained=config.sweep.retrain,
        final=score_runs({config.method: experiment}, runs, test, workdir),
        schedules={name: records.BetaSchedule(*found) for name, found in moved.items() if found},
    )


def _finished_run(
    search: Search, student: PlannedTrial, ends: Mapping[str, Outcome]
) -> FinishedRun:
    result = ends[student.directory].result or {}
    judged = next(trial for trial in search.chosen.trials if trial.seed == student.seed)
    return FinishedRun(
        method=search.config.method,
        beta=judged.end_beta,
        seed=student.seed,
        tune=judged.tune,
        directory=student.directory,
        seconds=result["seconds"],
        steps_per_second=steps_per_second(search.workdir / student.directory),
        parameters=result["parameters"],
    )


def _lost(
    search: Search, students: Sequence[PlannedTrial], ends: Mapping[str, Outcome]
) -> tuple[records.FailedSweepTrial, ...]:
    """The trials that did not finish; a member that a finished population lost is none of them."""
    planned = list(search.planned)
    if search.config.sweep.tuner == "population":
        alive = {(trial.teachers, trial.seed) for trial in search.trials}
        planned = [trial for trial in planned if (trial.teachers, trial.seed) not in alive]
    again = [student for student in students if student.joined]
    return tuple(
        records.FailedSweepTrial(
            teachers=trial.teachers,
            beta=trial.beta,
            seed=trial.seed,
            stage="final" if trial.joined else "search",
            directory=trial.directory,
            reason=ends[trial.directory].reason,
        )
        for trial in [*planned, *again]
        if ends[trial.directory].result is None
    )


def _with_named(search: Search) -> Config:
    """The config with the teachers that some trial reads."""
    named = {name for trial in search.planned for name in trial.names}
    teachers = search.config.teachers
    chosen = {name: teacher for name, teacher in teachers.items() if name in named}
    return dataclasses.replace(search.config, teachers=chosen)


def _schedule(directory: pathlib.Path) -> Schedule | None:
    """A trial's betas, if they moved."""
    return load_schedule(directory) if (directory / BETAS).exists() else None
