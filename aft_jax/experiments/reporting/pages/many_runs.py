"""Several training runs on one page: one table, and their curves."""

import json
import pathlib
from collections.abc import Sequence

from aft_jax.config import Config, to_json
from aft_jax.experiments.formatting import duration, percent, quantity, rounded, whole
from aft_jax.experiments.reporting.page import Cell, Column, Section, Table, figure_cell, words
from aft_jax.experiments.reporting.pages.cost import steps_per_second
from aft_jax.experiments.reporting.pages.learning import learning_section
from aft_jax.experiments.reporting.pages.setup import flat
from aft_jax.experiments.reporting.pages.training_run import METRIC, Run, load_run
from aft_jax.training.workdir import FREE, PLANS

_NO_SETTING = ("seed", "method", *FREE)


def run_sections(directories: Sequence[pathlib.Path]) -> tuple[str, list[Section]]:
    """A row for each run, and a curve for each setting: runs that differ in their seed alone.

    Args:
        directories: of finished training runs.

    Returns:
        (the sentence to take away, the sections).

    Raises:
        UsageError: a run is not finished, or a file is damaged.
    """
    runs = [load_run(directory) for directory in directories]
    labels = setting_names([run.config for run in runs])
    groups: dict[str, list[pathlib.Path]] = {}
    for label, run in zip(labels, runs, strict=True):
        groups.setdefault(label, []).append(run.directory)
    best = max(runs, key=lambda run: run.evaluations["tune"][METRIC])
    lead = (
        f"{quantity(len(runs), 'training run')} in {quantity(len(groups), 'setting')}; the highest "
        f"tune {METRIC} has {best.name} ({percent(best.evaluations['tune'][METRIC])} %)."
    )
    methods = {run.config.method for run in runs}
    shown = list(groups) if len(methods) == 1 else []
    learning = learning_section(groups, METRIC, shown, baseline=False)
    return lead, [Section("Training runs", tables=[_table(runs, labels)]), learning]


def setting_names(configs: Sequence[Config]) -> list[str]:
    """What tells each config from the others, seeds apart.

    Args:
        configs: at least one.

    Returns:
        For each one its method, and key=value for every other key that is not the same in all; of
        a block whose name differs, the name alone. Equal names are equal settings.
    """
    trees = [dict(flat(json.loads(to_json(config)))) for config in configs]
    keys = [
        key
        for key in dict.fromkeys(key for tree in trees for key in tree)
        if len({tree.get(key) for tree in trees}) > 1
        and not (key in _NO_SETTING or key.partition(".")[0] in PLANS)
    ]
    named = tuple(f"{block}." for block in ("data", "student") if f"{block}.name" in keys)
    shown = [key for key in keys if key.endswith(".name") or not key.startswith(named)]
    names: dict[tuple[str | None, ...], str] = {}
    for config, tree in zip(configs, trees, strict=True):
        setting = (config.method, *(tree.get(key) for key in keys))
        said = [f"{key}={tree[key]}" for key in shown if key in tree]
        name = ", ".join([config.method, *said])
        if setting not in names:
            count = sum(known.startswith(name) for known in names.values())
            names[setting] = f"{name} ({count + 1})" if count else name
    return [
        names[config.method, *(tree.get(key) for key in keys)]
        for config, tree in zip(configs, trees, strict=True)
    ]


def _table(runs: Sequence[Run], labels: Sequence[str]) -> Table:
    columns = [
        Column("run", "run", numeric=False),
        Column("setting", "setting", numeric=False),
        Column("seed", "seed"),
        Column(f"tune_{METRIC}", f"tune {METRIC} (%)"),
        Column(f"test_{METRIC}", f"test {METRIC} (%)"),
        Column("steps", "steps"),
        Column("steps_per_second", "steps per second"),
        Column("seconds", "time"),
        Column("student_parameters", "parameters"),
    ]
    rows = [_row(run, label) for run, label in zip(runs, labels, strict=True)]
    note = (
        "Test scores are those of `aft-jax evaluate --split=test`. Single runs scatter: for a "
        "difference between methods run `aft-jax compare`."
    )
    return Table("runs", columns, rows, note=note)


def _row(run: Run, label: str) -> list[Cell]:
    tune = run.evaluations["tune"][METRIC]
    test = run.evaluations["test"][METRIC] if "test" in run.evaluations else None
    speed, result = steps_per_second([run.directory]), run.result
    return [
        words(run.name),
        words(label),
        figure_cell(run.config.seed, whole),
        figure_cell(tune, percent),
        figure_cell(test, percent),
        figure_cell(result["step"], whole),
        figure_cell(speed, rounded),
        figure_cell(result["seconds"], duration),
        figure_cell(result["parameters"], whole),
    ]
