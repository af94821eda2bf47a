"""What a comparison measured: the records of `comparison.json`, written whole and read strictly."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TypedDict

from aft_jax.errors import UsageError
from aft_jax.experiments.strict import read_record, require_finite, write_record

FILE_NAME = "comparison.json"
_FIX = "Run `aft-jax compare` again in this directory to rewrite it."


class DatasetFacts(TypedDict):
    """The data set of a comparison.

    `splits` maps train / tune / test to numbers of examples, `overlap` a pair of splits to the
    number of examples that both have, where there are any, `skipped` a split to the names of its
    examples that could not be read, where there are any.
    """

    name: str
    version: str
    splits: dict[str, int]
    num_classes: int
    overlap: dict[str, int]
    skipped: dict[str, list[str]]


class StudentFacts(TypedDict):
    """The student of a comparison; `init_from` is None for a random start."""

    name: str
    parameters: int
    init_from: str | None


class StoreFacts(TypedDict):
    """The fingerprint of a feature store that was read.

    `rows` of the split, the digest of their ordered ids, the hash of the store's manifest (which
    holds the hashes of all its files), and how long the teacher took, where that was measured.
    """

    rows: int
    ids_sha256: str
    manifest_sha256: str
    extraction_seconds: float | None


class TeacherFacts(TypedDict):
    """One teacher of a comparison; `width` is the number of its features.

    `revision` and `weights_sha256` are those of the weights that computed the stores; `stores` maps
    a split to the store that was read.
    """

    id: str
    revision: str
    weights_sha256: str
    parameters: int
    width: int
    stores: dict[str, StoreFacts]


@dataclasses.dataclass(frozen=True)
class BetaTrial:
    """One training run of the search for beta, scored on the tune split only.

    Attributes:
        method: regularizer name, for example "aft".
        beta: weight of the regularizer in the loss.
        seed: seed of the run.
        tune: metric on the tune split, a fraction.
    """

    method: str
    beta: float
    seed: int
    tune: float

    def __post_init__(self) -> None:
        """Refuses a metric that is not finite."""
        require_finite(self, ("beta", "tune"))


@dataclasses.dataclass(frozen=True)
class Trial:
    """One final training run, scored on the test split.

    Attributes:
        method: regularizer name; "stl" is plain fine-tuning.
        beta: weight of the regularizer in the loss.
        seed: seed of the run; runs of two methods with one seed form a pair.
        test: metric on the test split, a fraction.
        tune: metric on the tune split, a fraction.
        directory: the run's directory, relative to the comparison's.
        seconds: wall-clock time of the run since it last started or resumed.
        steps_per_second: median over the lines of its metrics, the first apart (it compiles).
        parameters: of what was trained; other methods' than the student's for "concat", say.
    """

    method: str
    beta: float
    seed: int
    test: float
    tune: float
    directory: str
    seconds: float
    steps_per_second: float
    parameters: int

    def __post_init__(self) -> None:
        """Refuses a metric that is not finite."""
        require_finite(self, ("beta", "test", "tune", "seconds", "steps_per_second"))


@dataclasses.dataclass(frozen=True)
class FailedTrial:
    """One training run that did not finish; the same command tries it again.

    Attributes:
        method: its name.
        beta: weight of the regularizer in the loss.
        seed: seed of the run.
        stage: "search" (that beta is out) or "final" (the method is).
        reason: what went wrong.
    """

    method: str
    beta: float
    seed: int
    stage: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Everything one comparison measured; field by field what `comparison.json` holds.

    Attributes:
        dataset: name, version, split sizes, number of classes.
        student: name, number of parameters, where its weights came from.
        teachers: by name: model id, number of parameters, number of features, stores.
        config_sha256: of the directory's `config.json`.
        method_options: keyword arguments of every method, those of failed ones too.
        metric: name of the metric in `test` and `tune`, for example "accuracy".
        environment: versions and device of the machine that ran it.
        beta_search: the runs that chose beta, those of betas that failed apart.
        chosen_beta: the chosen beta of every method that has one.
        trials: the final runs, one for each method and seed.
        failed_trials: the runs that did not finish.
        failed_methods: method -> why it is left out of the trials.
    """

    dataset: DatasetFacts
    student: StudentFacts
    teachers: Mapping[str, TeacherFacts]
    config_sha256: str
    method_options: Mapping[str, Mapping[str, Any]]
    metric: str
    environment: Mapping[str, Any]
    beta_search: tuple[BetaTrial, ...]
    chosen_beta: Mapping[str, float]
    trials: tuple[Trial, ...]
    failed_trials: tuple[FailedTrial, ...]
    failed_methods: Mapping[str, str]

    def __post_init__(self) -> None:
        """Refuses a method with two final runs of one seed, or not at its chosen beta."""
        seen: dict[tuple[str, int], Trial] = {}
        for trial in self.trials:
            first = seen.setdefault((trial.method, trial.seed), trial)
            if first is not trial:
                raise UsageError(
                    "trials: a method has one final run for each seed, so that the test split is "
                    f"used once; {trial.method!r} with seed {trial.seed} has two: "
                    f"{first.directory} and {trial.directory}. Remove one of them."
                )
            chosen = self.chosen_beta.get(trial.method, trial.beta)
            if chosen != trial.beta:
                raise UsageError(
                    f"trials: final runs use the chosen beta; chosen_beta.{trial.method} is "
                    f"{chosen:g}, but {trial.directory} ran at {trial.beta:g}. "
                    "Run it again at the chosen beta."
                )


def save(comparison: Comparison, workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Writes `comparison.json` whole or not at all.

    Args:
        comparison: what was measured.
        workdir: directory of the comparison; created if missing.

    Returns:
        The path of the written file.
    """
    directory = pathlib.Path(workdir)
    directory.mkdir(parents=True, exist_ok=True)
    write_record(comparison, directory / FILE_NAME)
    return directory / FILE_NAME


def load(workdir: str | os.PathLike[str]) -> Comparison:
    """Reads and checks `comparison.json`.

    Args:
        workdir: directory of the comparison.

    Returns:
        The comparison, equal to the one that was saved.

    Raises:
        UsageError: no comparison was made in this directory; or a key is missing, unknown or of
            the wrong type, and the message names it.
    """
    path = pathlib.Path(workdir) / FILE_NAME
    if not path.is_file():
        raise UsageError(
            f"{path} is missing: a report needs a finished comparison. "
            f"Make it with `aft-jax compare --config=CONFIG --workdir={workdir}`."
        )
    comparison = read_record(Comparison, path, _FIX)
    if missing := {"train", "tune", "test"} - set(comparison.dataset["splits"]):
        raise UsageError(f"{path}: key dataset.splits.{min(missing)} is missing. {_FIX}")
    return comparison
