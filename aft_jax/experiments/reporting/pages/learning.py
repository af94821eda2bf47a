"""The section on what happened during training."""

import pathlib
from collections.abc import Mapping, Sequence

from aft_jax.experiments.formatting import percent, whole
from aft_jax.experiments.reporting.captions import training as captions
from aft_jax.experiments.reporting.curves import Curve, average, read_metric
from aft_jax.experiments.reporting.page import Column, Picture, Section, Table, figure_cell, words
from aft_jax.experiments.reporting.plots import training as plots

Runs = Mapping[str, Sequence[pathlib.Path]]
"""Name of a method, setting or run -> directories of its seeds."""


def learning_section(
    runs: Runs, metric: str, transfers: Sequence[str], *, baseline: bool = True
) -> Section:
    """Curves of the tune metric over training, and of the regularizer.

    Args:
        runs: by name, baseline first; runs without `metrics.jsonl` are left out.
        metric: name of the metric.
        transfers: names whose regularizer is shown: those of one method, as the numbers of
            different methods have nothing to do with each other.
        baseline: whether the first of the runs is one, to be drawn beside every other.

    Returns:
        The section; empty where no run left metrics.

    Raises:
        UsageError: a `metrics.jsonl` is malformed.
    """
    tune = curves_of(runs, "tune", metric)
    if not tune:
        return Section("During training")
    regularizer = curves_of({name: runs[name] for name in transfers}, "train", "regularizer")
    # Plain fine-tuning may log a constant zero, which is no curve.
    regularizer = {name: curve for name, curve in regularizer.items() if curve.mean.any()}
    # Without a baseline its look is left to a name that does not occur.
    names = list(runs) if baseline else ["", *runs]
    if len(tune) <= plots.MOST_LINES:
        figure = plots.learning_curves(tune, regularizer, names, metric)
        caption = captions.learning_curves(tune, regularizer, metric)
    else:
        figure = plots.learning_panels(tune, names, metric)
        caption = captions.learning_panels(tune, names[0], metric)
    picture = Picture("learning_curves", "Learning curves", caption, figure)
    return Section("During training", tables=[_file(tune, metric)], pictures=[picture])


def curves_of(runs: Runs, split: str, name: str) -> dict[str, Curve]:
    """One metric over training, averaged over the seeds of each name.

    Args:
        runs: by name.
        split: "train", "tune" or "test".
        name: of the metric.

    Returns:
        name -> curve; without those whose runs left no such metric.
    """
    curves = {}
    for key, directories in runs.items():
        try:
            curve = average([read_metric(path, split, name) for path in directories])
        except FileNotFoundError:
            continue
        if len(curve.steps):
            curves[key] = curve
    return curves


def _file(tune: Mapping[str, Curve], metric: str) -> Table:
    columns = [
        Column("run", "run", numeric=False),
        Column("step", "training step"),
        Column(f"tune_{metric}", f"tune {metric}, mean (%)"),
        Column("std", "std over seeds"),
        Column("seeds", "seeds"),
    ]
    rows = [
        [
            words(name),
            figure_cell(int(step), "{:,}".format),
            figure_cell(float(mean), percent),
            figure_cell(float(std) if curve.count > 1 else None, percent),
            figure_cell(curve.count, whole),
        ]
        for name, curve in tune.items()
        for step, mean, std in zip(curve.steps, curve.mean, curve.std, strict=True)
    ]
    return Table("learning_curves", columns, rows, shown=False)
