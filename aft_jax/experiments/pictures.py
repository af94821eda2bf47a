"""Which figures a report has, each with its caption: what the measured inputs allow."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from aft_jax.experiments import captions, plots
from aft_jax.experiments.curves import Curve, average, read_metric
from aft_jax.experiments.diagnostics import load_diagnostics
from aft_jax.experiments.records import Comparison
from aft_jax.experiments.statistics import (
    MethodResult,
    by_seed,
    headline_method,
    method_order,
    scores_by_seed,
    summary,
)


class Picture(NamedTuple):
    """One figure of the page: file name without suffix, heading, caption, drawing."""

    name: str
    title: str
    caption: str
    figure: Figure


def pictures_of(
    workdir: pathlib.Path, comparison: Comparison, results: Sequence[MethodResult]
) -> list[Picture]:
    """The figures that the measured inputs allow, in the order of the page.

    Args:
        workdir: directory of the comparison.
        comparison: what was measured.
        results: its result table, baseline first.

    Returns:
        The pictures; those whose inputs are absent are left out.

    Raises:
        UsageError: `metrics.jsonl` of a run or `diagnostics.npz` is malformed.
    """
    pictures = []
    if any(result.difference for result in results):
        pictures.append(
            Picture(
                "intervals",
                "Difference to the baseline",
                captions.intervals(results),
                plots.intervals(results),
            )
        )
        scores = {row.method: scores_by_seed(comparison, row.method) for row in results}
        pictures.append(
            Picture(
                "paired_seeds",
                "Seed by seed",
                captions.paired_seeds(scores),
                plots.paired_seeds(scores, comparison.metric),
            )
        )
    pictures += _learning_picture(workdir, comparison)
    pictures += _beta_picture(comparison)
    return pictures + _diagnostic_pictures(workdir)


def _learning_picture(workdir: pathlib.Path, comparison: Comparison) -> list[Picture]:
    methods = method_order(comparison)
    shown = [method for method in (methods[0], headline_method(comparison)) if method]
    tune = _curves(workdir, comparison, shown, "tune", comparison.metric)
    if not tune:
        return []
    regularizer = _curves(workdir, comparison, shown, "train", "regularizer")
    # Plain fine-tuning may log a constant zero, which is no curve.
    regularizer = {name: curve for name, curve in regularizer.items() if curve.mean.any()}
    return [
        Picture(
            "learning_curves",
            "During training",
            captions.learning_curves(tune, regularizer, comparison.metric),
            plots.learning_curves(tune, regularizer, methods, comparison.metric),
        )
    ]


def _beta_picture(comparison: Comparison) -> list[Picture]:
    if not any(trial.beta > 0 for trial in comparison.beta_search):
        return []
    methods = method_order(comparison)
    baseline = by_seed(comparison, methods[0])
    # The line compares with the search, so it averages the same seeds where they were run.
    seeds = {trial.seed for trial in comparison.beta_search}
    level = summary(
        [baseline[seed].tune for seed in (seeds if seeds <= baseline.keys() else baseline)]
    )
    searched = {trial.method for trial in comparison.beta_search}
    line = None if methods[0] in searched else (methods[0], level.mean)
    return [
        Picture(
            "beta_curve",
            "The search for beta",
            captions.beta_curve(comparison, line),
            plots.beta_curve(
                comparison.beta_search,
                comparison.chosen_beta,
                line[1] if line else None,
                methods,
                comparison.metric,
            ),
        )
    ]


def _diagnostic_pictures(workdir: pathlib.Path) -> list[Picture]:
    diagnostics = load_diagnostics(workdir)
    pictures = []
    if diagnostics and diagnostics.kernels:
        pictures.append(
            Picture(
                "kernels",
                "Which examples look alike",
                captions.kernels(diagnostics),
                plots.kernel_images(diagnostics),
            )
        )
    if diagnostics and diagnostics.gates:
        pictures.append(
            Picture(
                "gates",
                "Which teacher features were kept",
                captions.gates(diagnostics.gates),
                plots.gate_histograms(diagnostics.gates),
            )
        )
    return pictures


def _curves(
    workdir: pathlib.Path, comparison: Comparison, methods: Sequence[str], split: str, name: str
) -> dict[str, Curve]:
    curves = {}
    for method in methods:
        trials = by_seed(comparison, method).values()
        directories = [workdir / trial.directory for trial in trials]
        try:
            curve = average([read_metric(path, split, name) for path in directories])
        except FileNotFoundError:
            continue
        if len(curve.steps):
            curves[method] = curve
    return curves
