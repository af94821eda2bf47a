"""What a sweep measured: the records of `sweep.json`, written whole and read strictly."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from aft_jax.errors import UsageError
from aft_jax.experiments.comparison.records import DatasetFacts, StudentFacts, TeacherFacts, Trial
from aft_jax.experiments.strict import read_record, write_record

FILE_NAME = "sweep.json"
_FIX = "Run `aft-jax sweep` again in this directory to rewrite it."


@dataclasses.dataclass(frozen=True)
class SweepTrial:
    """One training run that chose, scored on the tune split only.

    Attributes:
        teachers: name of the set of teachers, a key of `Sweep.teacher_sets`.
        beta: weight of the regularizer; where the tuner moves it, at the start.
        seed: of the run; of a population, which its members share.
        tune: metric on the tune split, a fraction.
        end_beta: beta in its last interval.
        directory: the run's, relative to the sweep's.
        seconds: wall-clock time; of trials that trained together, their share of it.
    """

    teachers: str
    beta: float
    seed: int
    tune: float
    end_beta: float
    directory: str
    seconds: float

    def __post_init__(self) -> None:
        """Refuses numbers that are not finite."""
        values = (self.beta, self.tune, self.end_beta, self.seconds)
        if not all(map(math.isfinite, values)):
            raise UsageError(f"the numbers of {self.directory} are finite; got {values}. {_FIX}")


@dataclasses.dataclass(frozen=True)
class FailedSweepTrial:
    """One training run that did not finish; the same command tries it again.

    Attributes:
        teachers: name of the set of teachers.
        beta: weight of the regularizer at the start.
        seed: of the run.
        stage: "search", or "final" where the chosen setting trained again.
        directory: the run's, relative to the sweep's.
        reason: what went wrong.
    """

    teachers: str
    beta: float
    seed: int
    stage: str
    directory: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The setting with the best mean on tune.

    Attributes:
        teachers: name of the set of teachers.
        beta: of the grid, at the start where it moved; None for a population, whose best member is
            the student.
    """

    teachers: str
    beta: float | None


@dataclasses.dataclass(frozen=True)
class BetaSchedule:
    """The betas of a final student whose beta moved.

    Attributes:
        interval: steps for which each of them held.
        betas: in order; of a copied student, those of the one it was copied from, before.
    """

    interval: int
    betas: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Everything one sweep measured; field by field what `sweep.json` holds.

    Attributes:
        method: what was trained.
        method_options: its keyword arguments.
        tuner: "grid", "population" or "online".
        teacher_sets: name of a set -> its teachers; empty sets are of methods that read none.
        dataset: name, version, split sizes, number of classes.
        student: name, number of parameters, where its weights came from.
        teachers: by name: model id, number of parameters, number of features, stores.
        config_sha256: of the sweep's `config.json`.
        metric: name of the metric in `tune` and `test`, for example "accuracy".
        environment: versions and device of the machine that ran it.
        trials: the runs that chose.
        failed: the runs that did not finish.
        chosen: the setting.
        retrained: whether the final students trained again, on train and tune together.
        final: the final students; their `tune` is that of the trial that chose, which did not train
            on it, their `beta` that of the last interval.
        schedules: directory of a final student -> its betas; empty where beta did not move.
    """

    method: str
    method_options: Mapping[str, Any]
    tuner: str
    teacher_sets: Mapping[str, tuple[str, ...]]
    dataset: DatasetFacts
    student: StudentFacts
    teachers: Mapping[str, TeacherFacts]
    config_sha256: str
    metric: str
    environment: Mapping[str, Any]
    trials: tuple[SweepTrial, ...]
    failed: tuple[FailedSweepTrial, ...]
    chosen: Chosen
    retrained: bool
    final: tuple[Trial, ...]
    schedules: Mapping[str, BetaSchedule]

    def __post_init__(self) -> None:
        """Refuses a trial of a set that is not listed, and two final runs of one seed."""
        named = {trial.teachers for trial in (*self.trials, *self.failed)} | {self.chosen.teachers}
        if strangers := sorted(named - set(self.teacher_sets)):
            raise UsageError(
                f"teacher_sets names every set of a trial; {strangers} are not. {_FIX}"
            )
        seeds = [trial.seed for trial in self.final]
        if len(set(seeds)) < len(seeds):
            raise UsageError(f"final has one student a seed; got seeds {seeds}. {_FIX}")


def save_sweep(sweep: Sweep, workdir: pathlib.Path) -> None:
    """Writes `sweep.json` whole or not at all.

    Args:
        sweep: what was measured.
        workdir: directory of the sweep.
    """
    write_record(sweep, workdir / FILE_NAME)


def load_sweep(workdir: str | os.PathLike[str]) -> Sweep:
    """Reads and checks `sweep.json`.

    Args:
        workdir: directory of the sweep.

    Returns:
        The sweep, equal to the one that was saved.

    Raises:
        UsageError: no sweep was finished in this directory; or a key is missing, unknown or of the
            wrong type, and the message names it.
    """
    path = pathlib.Path(workdir) / FILE_NAME
    if not path.is_file():
        raise UsageError(
            f"a finished sweep has {path}; it is missing. Make it with "
            f"`aft-jax sweep --config=CONFIG --workdir={workdir}`."
        )
    return read_record(Sweep, path, _FIX)
