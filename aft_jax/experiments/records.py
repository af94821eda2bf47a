"""What a comparison measured: the records of `comparison.json`, written whole and read strictly."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TypedDict, get_origin, get_type_hints

from aft_jax.errors import UsageError
from aft_jax.files import write_whole

FILE_NAME = "comparison.json"


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


class TeacherFacts(TypedDict):
    """One teacher of a comparison; `width` is the number of its features."""

    id: str
    parameters: int
    width: int


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
        _require_finite(self, ("beta", "tune"))


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
    """

    method: str
    beta: float
    seed: int
    test: float
    tune: float
    directory: str
    seconds: float

    def __post_init__(self) -> None:
        """Refuses a metric that is not finite."""
        _require_finite(self, ("beta", "test", "tune", "seconds"))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Everything one comparison measured; field by field what `comparison.json` holds.

    Attributes:
        dataset: name, version, split sizes, number of classes.
        student: name, number of parameters, where its weights came from.
        teachers: by name: model id, number of parameters, number of features.
        metric: name of the metric in `test` and `tune`, for example "accuracy".
        environment: versions and device of the machine that ran it.
        beta_search: the runs that chose beta.
        chosen_beta: the chosen beta of every method that has one.
        trials: the final runs, one for each method and seed.
    """

    dataset: DatasetFacts
    student: StudentFacts
    teachers: Mapping[str, TeacherFacts]
    metric: str
    environment: Mapping[str, Any]
    beta_search: tuple[BetaTrial, ...]
    chosen_beta: Mapping[str, float]
    trials: tuple[Trial, ...]

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
    text = json.dumps(dataclasses.asdict(comparison), indent=2, allow_nan=False) + "\n"
    write_whole(directory / FILE_NAME, text)
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
    try:
        return _comparison(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is not JSON ({error}). {_FIX}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


_FIX = "Run `aft-jax compare` again in this directory to rewrite it."


def _comparison(raw: Any) -> Comparison:
    fields = _checked(get_type_hints(Comparison), raw, "")
    fields["dataset"] = _facts(DatasetFacts, fields["dataset"], "dataset")
    splits: dict[str, type] = dict.fromkeys(("train", "tune", "test"), int)
    _checked(splits, fields["dataset"]["splits"], "dataset.splits")
    fields["student"] = _facts(StudentFacts, fields["student"], "student")
    fields["teachers"] = {
        name: _facts(TeacherFacts, teacher, f"teachers.{name}")
        for name, teacher in fields["teachers"].items()
    }
    fields["chosen_beta"] = _checked(
        dict.fromkeys(fields["chosen_beta"], float), fields["chosen_beta"], "chosen_beta"
    )
    fields["beta_search"] = _rows(BetaTrial, fields["beta_search"], "beta_search")
    fields["trials"] = _rows(Trial, fields["trials"], "trials")
    return Comparison(**fields)


def _rows(record: type, raw: list[Any], where: str) -> tuple[Any, ...]:
    hints = get_type_hints(record)
    return tuple(
        record(**_checked(hints, row, f"{where}[{index}]")) for index, row in enumerate(raw)
    )


def _facts(record: type, raw: Any, where: str) -> dict[str, Any]:
    """Checks the keys of a TypedDict; further facts are kept, for the reader's use."""
    hints = get_type_hints(record)
    extra = set(raw) - set(hints) if isinstance(raw, dict) else set()
    return _checked({**hints, **dict.fromkeys(extra, object)}, raw, where)


def _checked(hints: Mapping[str, Any], raw: Any, where: str) -> dict[str, Any]:
    """Returns `raw` if it is an object with exactly the keys of `hints`, of those types."""
    if not isinstance(raw, dict):
        raise UsageError(
            f"{where or 'the file'} should be an object, is {type(raw).__name__}. {_FIX}"
        )
    prefix = f"{where}." if where else ""
    if missing := [key for key in hints if key not in raw]:
        raise UsageError(f"key {prefix}{missing[0]} is missing. {_FIX}")
    if unknown := sorted(set(raw) - set(hints)):
        raise UsageError(
            f"key {prefix}{unknown[0]} is unknown; valid keys: {', '.join(hints)}. {_FIX}"
        )
    return {key: _typed(hints[key], raw[key], prefix + key) for key in hints}


def _typed(hint: Any, value: Any, where: str) -> Any:
    """Returns `value` as the type of its key: whole numbers pass for floats, booleans never."""
    origin = get_origin(hint)
    if hint is object:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kind: Any = hint
    if origin is tuple:
        kind = list
    elif origin in (dict, Mapping) or hint in (DatasetFacts, StudentFacts):
        kind = dict
    if not isinstance(value, kind) or isinstance(value, bool):
        name = {dict: "an object", list: "a list"}.get(kind, getattr(kind, "__name__", str(kind)))
        raise UsageError(f"key {where} should be {name}, is {value!r:.80}. {_FIX}")
    return value


def _require_finite(record: Any, keys: tuple[str, ...]) -> None:
    for key in keys:
        if not math.isfinite(value := getattr(record, key)):
            raise UsageError(
                f"{key} of {record.method!r} with seed {record.seed} must be a finite number, is "
                f"{value}: did the run diverge? Lower its learning rate or beta and run it again."
            )
