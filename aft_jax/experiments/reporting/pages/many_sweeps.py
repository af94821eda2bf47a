"""Several sweeps on one page."""

import pathlib
from collections.abc import Sequence

from aft_jax.experiments.formatting import number, percent, quantity, whole
from aft_jax.experiments.reporting.page import Column, Section, Table, figure_cell, words
from aft_jax.experiments.reporting.pages.sweep import lead
from aft_jax.experiments.statistics.results import Summary, summary
from aft_jax.experiments.sweeping.records import load_sweep


def sweep_sections(directories: Sequence[pathlib.Path]) -> tuple[str, list[Section]]:
    """What every sweep chose, and what that scored.

    Args:
        directories: of finished sweeps.

    Returns:
        (the sentence to take away, the sections).

    Raises:
        UsageError: a `sweep.json` is malformed.
    """
    sweeps = [load_sweep(directory) for directory in directories]
    columns = [
        Column("sweep", "sweep", numeric=False),
        Column("dataset", "data set", numeric=False),
        Column("student", "student", numeric=False),
        Column("method", "method", numeric=False),
        Column("teachers", "chosen teachers", numeric=False),
        Column("beta", "chosen beta"),
        Column("tune", "tune (%)"),
        Column("test", "test, mean (%)"),
        Column("std", "std over seeds (points)"),
        Column("seeds", "seeds"),
    ]
    rows = []
    for directory, sweep in zip(directories, sweeps, strict=True):
        tune = summary([trial.tune for trial in sweep.final])
        test: Summary = summary([trial.test for trial in sweep.final])
        beta = sweep.chosen.beta
        rows.append(
            [
                words(directory.resolve().name),
                words(sweep.dataset["name"]),
                words(sweep.student["name"]),
                words(sweep.method),
                words(sweep.chosen.teachers if sweep.teacher_sets[sweep.chosen.teachers] else ""),
                figure_cell(beta, number),
                figure_cell(tune.mean, percent),
                figure_cell(test.mean, percent),
                figure_cell(test.std, percent),
                figure_cell(test.count, whole),
            ]
        )
    text = lead(sweeps[0]) if len(sweeps) == 1 else f"{quantity(len(sweeps), 'sweep')} below."
    return text, [Section("Sweeps", tables=[Table("sweeps", columns, rows)])]
