"""The section on the result of a comparison, and the one on how it was chosen."""

import pathlib
from collections.abc import Sequence

from aft_jax.experiments.comparison.records import Comparison
from aft_jax.experiments.formatting import duration, number, p_value, percent, points, whole
from aft_jax.experiments.reporting.captions import training as captions
from aft_jax.experiments.reporting.curves import read_metric
from aft_jax.experiments.reporting.page import (
    Cell,
    Column,
    Picture,
    Section,
    Table,
    figure_cell,
    words,
)
from aft_jax.experiments.reporting.pages.methods import meanings
from aft_jax.experiments.reporting.plots import training as plots
from aft_jax.experiments.statistics.bootstrap import Replicates
from aft_jax.experiments.statistics.results import (
    MethodResult,
    by_seed,
    headline_method,
    method_order,
    scores_by_seed,
    summary,
    tune_by_beta,
)
from aft_jax.experiments.statistics.verdicts import rival_verdict, verdict

MOST_WORDS = 3
"""Methods that have a paragraph or a sentence each."""


def outcome(result: MethodResult | None) -> str:
    """The class of a verdict, for its colour: "wins", "loses" or "unclear"."""
    if result is None or result.difference is None or result.difference.contains_zero:
        return "unclear"
    return "wins" if result.difference.mean > 0 else "loses"


def result_section(
    comparison: Comparison, results: Sequence[MethodResult], replicates: Replicates | None
) -> Section:
    """The table, what it means, and the figures of the differences.

    Args:
        comparison: what was measured.
        results: its result table, baseline first.
        replicates: of the bootstrap, for the verdicts in words.

    Returns:
        The section.
    """
    methods = [result.method for result in results]
    headline = headline_method(comparison)
    others = [name for name in methods[1:] if name != headline]
    # Of many methods the table and the figure say it all; sentences would bury them.
    notes = [verdict(comparison, name, replicates) for name in others if len(others) <= MOST_WORDS]
    if rival := rival_verdict(comparison, replicates):
        notes.insert(0, rival)
    notes += [f"{name} is left out: {why}" for name, why in comparison.failed_methods.items()]
    notes += captions.caveats(comparison, results)
    pictures = []
    if any(result.difference for result in results):
        scores = {row.method: scores_by_seed(comparison, row.method) for row in results}
        seeds = captions.paired_seeds(scores)
        pictures = [
            Picture(
                "intervals",
                "Difference to the baseline",
                captions.intervals(results),
                plots.intervals(results),
            ),
            Picture(
                "paired_seeds",
                "Seed by seed",
                seeds,
                plots.paired_seeds(scores, comparison.metric),
            ),
        ]
    table = result_table("results", comparison.metric, results)
    meant = meanings(methods)
    said = meant if len(meant) <= MOST_WORDS else [" ".join(meant)]
    return Section("Result", said, [table], pictures, notes)


def result_table(name: str, metric: str, results: Sequence[MethodResult]) -> Table:
    """One row for each method.

    Args:
        name: of the file.
        metric: name of the metric.
        results: the result table, baseline first.

    Returns:
        The table.
    """
    columns = [
        Column("method", "method", numeric=False),
        Column("beta", "beta"),
        Column("mean", f"test {metric}, mean (%)"),
        Column("std", "std over seeds (points)"),
        Column("normalised_error", "error / error of stl"),
        Column("difference", f"difference to {results[0].method} (points)"),
        Column("difference_low", "95 % interval from"),
        Column("difference_high", "to"),
        Column("adjusted_p", "p (Holm)"),
        Column("seeds", "seeds"),
        Column("seconds", "time of a run (median)"),
    ]
    return Table(name, columns, [_row(result) for result in results])


def _row(result: MethodResult) -> list[Cell]:
    test, difference, tone = result.test, result.difference, outcome(result)
    bounds = (difference.mean, difference.low, difference.high) if difference else (None,) * 3
    return [
        words(result.method),
        figure_cell(result.beta or None, number),
        figure_cell(test.mean, percent),
        figure_cell(test.std, percent),
        figure_cell(result.normalised_error, "{:.3f}".format),
        *(figure_cell(value, points, tone) for value in bounds),
        figure_cell(result.adjusted_p, p_value),
        figure_cell(test.count, whole),
        figure_cell(result.seconds, duration),
    ]


def choice_section(workdir: pathlib.Path, comparison: Comparison) -> Section:
    """How every beta was chosen, and how often the test split was looked at.

    Args:
        workdir: directory of the comparison.
        comparison: what was measured.

    Returns:
        The section.
    """
    sentences = captions.choice(comparison, _test_readings(workdir, comparison))
    sentences += [
        f"{run.method} at beta {number(run.beta)} with seed {run.seed} failed in the "
        f"{run.stage}: {run.reason}"
        for run in comparison.failed_trials
    ]
    return Section(
        "How the choice was made",
        tables=[_search_file(comparison)] if comparison.beta_search else [],
        pictures=_search_picture(comparison),
        notes=sentences,
    )


def _search_picture(comparison: Comparison) -> list[Picture]:
    methods = method_order(comparison)
    # A method that is left out of the table has no look there; its search is not drawn.
    search = [t for t in comparison.beta_search if t.beta > 0 and t.method in methods]
    if not search:
        return []
    searched = dict.fromkeys(trial.method for trial in search)
    rows = {method: tune_by_beta(search, method) for method in searched}
    runs = {
        method: [(trial.beta, trial.tune) for trial in search if trial.method == method]
        for method in searched
    }
    line = _baseline_level(comparison, methods[0], {trial.seed for trial in search})
    level = line[1] if line else None
    figure = plots.beta_curve(rows, runs, comparison.chosen_beta, level, methods, comparison.metric)
    caption = captions.beta_curve(rows, line)
    return [Picture("beta_curve", "The search for beta", caption, figure)]


def _baseline_level(
    comparison: Comparison, baseline: str, seeds: set[int]
) -> tuple[str, float] | None:
    """The tune metric of the baseline, for a line; None where it was searched itself."""
    if any(trial.method == baseline for trial in comparison.beta_search):
        return None
    runs = by_seed(comparison, baseline)
    # The line compares with the search, so it averages the same seeds where they were run.
    kept = seeds if seeds <= runs.keys() else runs.keys()
    return baseline, summary([runs[seed].tune for seed in sorted(kept)]).mean


def _search_file(comparison: Comparison) -> Table:
    columns = [
        Column("method", "method", numeric=False),
        Column("beta", "beta"),
        Column("seed", "seed"),
        Column(f"tune_{comparison.metric}", f"tune {comparison.metric}"),
    ]
    rows = [
        [
            words(trial.method),
            figure_cell(trial.beta, number),
            figure_cell(trial.seed, whole),
            figure_cell(trial.tune, percent),
        ]
        for trial in comparison.beta_search
    ]
    return Table("beta_search", columns, rows, shown=False)


def _test_readings(workdir: pathlib.Path, comparison: Comparison) -> int | None:
    """The most steps at which one final run scored the test split; None without its metrics."""
    try:
        return max(
            len(read_metric(workdir / trial.directory, "test", comparison.metric))
            for trial in comparison.trials
        )
    except FileNotFoundError:
        return None
