"""The section on cost: speed of training with each method, and what the teachers' features took."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aft_jax.experiments.comparison.records import TeacherFacts
from aft_jax.experiments.formatting import duration, rounded, whole
from aft_jax.experiments.reporting.curves import read_metric
from aft_jax.experiments.reporting.page import Column, Section, Table, figure_cell, words
from aft_jax.experiments.reporting.pages.learning import Runs

TITLE = "Cost"


class Extraction(NamedTuple):
    """What one store of a teacher's features took.

    Attributes:
        teacher: its name in the config.
        split: of the data set.
        rows: examples of the split.
        width: features of a row.
        parameters: of the teacher; 0 where the store does not know.
        seconds: of the teacher's pass over the split; None where nobody measured it.
    """

    teacher: str
    split: str
    rows: int
    width: int
    parameters: int
    seconds: float | None


def cost_section(
    runs: Runs,
    seconds: Mapping[str, float],
    parameters: Mapping[str, int],
    stores: Sequence[Extraction],
) -> Section:
    """How fast the methods train, and what extraction took.

    Args:
        runs: by method, baseline first; those without metrics have no speed.
        seconds: method -> median wall-clock time of a run.
        parameters: method -> parameters of its student.
        stores: what each one took.

    Returns:
        The section.
    """
    tables = [_speed_table(runs, seconds, parameters)]
    if stores:
        tables.append(_extraction_table(stores))
    return Section(TITLE, tables=tables)


def extractions(teachers: Mapping[str, TeacherFacts]) -> list[Extraction]:
    """What the stores of a record took.

    Args:
        teachers: by name.

    Returns:
        One for each store.
    """
    return [
        Extraction(
            name,
            split,
            store["rows"],
            teacher["width"],
            teacher["parameters"],
            store["extraction_seconds"],
        )
        for name, teacher in teachers.items()
        for split, store in teacher["stores"].items()
    ]


def steps_per_second(directories: Sequence[pathlib.Path]) -> float | None:
    """The median speed of training, over the intervals between two lines of all the runs' metrics.

    The first interval of a run is left out where there are more: it waits for the compiler.

    Args:
        directories: of the runs.

    Returns:
        Steps a second; None where no run left metrics.
    """
    speeds: list[float] = []
    for directory in directories:
        try:
            found = list(read_metric(directory, "train", "steps_per_second").values())
        except FileNotFoundError:
            continue
        speeds += found[1:] or found
    return statistics.median(speeds) if speeds else None


def _speed_table(runs: Runs, seconds: Mapping[str, float], parameters: Mapping[str, int]) -> Table:
    speeds = {name: steps_per_second(directories) for name, directories in runs.items()}
    baseline = next(iter(runs))
    reference = speeds[baseline]
    columns = [
        Column("method", "method", numeric=False),
        Column("steps_per_second", "steps per second (median)"),
        Column("overhead", f"time of a step against {baseline}"),
        Column("seconds_per_run", "time of a run (median)"),
        Column("student_parameters", "parameters of the student"),
    ]
    rows = []
    for name in runs:
        speed, took, size = speeds[name], seconds.get(name), parameters.get(name)
        overhead = None
        if name != baseline and speed and reference:
            overhead = reference / speed - 1
        rows.append(
            [
                words(name),
                figure_cell(speed, rounded),
                figure_cell(overhead, "{:+.1%}".format),
                figure_cell(took, duration),
                figure_cell(size, whole),
            ]
        )
    note = (
        "Speed counts everything between two steps: loading rows, joining features, evaluation. "
        "Teachers take no part in it, nor in using the student."
    )
    return Table("cost", columns, rows, "Training", note=note)


def _extraction_table(stores: Sequence[Extraction]) -> Table:
    columns = [
        Column("teacher", "teacher", numeric=False),
        Column("split", "split", numeric=False),
        Column("rows", "rows"),
        Column("features", "features"),
        Column("parameters", "parameters of the teacher"),
        Column("extraction_seconds", "time of the extraction"),
        Column("rows_per_second", "rows per second"),
    ]
    rows = []
    for store in stores:
        rate = store.rows / store.seconds if store.seconds else None
        time = words("not recorded")
        if store.seconds is not None:
            time = figure_cell(store.seconds, duration)
        rows.append(
            [
                words(store.teacher),
                words(store.split),
                figure_cell(store.rows, whole),
                figure_cell(store.width, whole),
                figure_cell(store.parameters or None, whole),
                time._replace(value=store.seconds),
                figure_cell(rate, rounded),
            ]
        )
    note = (
        "Features are extracted once, for every run that reads them: the time of the teacher's "
        "pass over the split, added up where several hosts shared it."
    )
    return Table("extraction", columns, rows, "Extraction of the teachers' features", note=note)
