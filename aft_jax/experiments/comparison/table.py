"""What `compare` prints: the table of methods, the verdicts, and what failed."""

import math
import pathlib
from collections.abc import Sequence

from aft_jax.experiments.comparison.records import Comparison
from aft_jax.experiments.formatting import number, p_value, points, spread
from aft_jax.experiments.statistics.bootstrap import bootstrap_of
from aft_jax.experiments.statistics.results import (
    MethodResult,
    at_the_end,
    method_results,
    tune_by_beta,
)
from aft_jax.experiments.statistics.verdicts import rival_verdict, verdict
from aft_jax.text_table import text_table

INTERVAL = (
    "interval: 95 %, bootstrap over seeds and test examples, never narrower than Student's t over "
    "seeds"
)
INTERVAL_OF_SEEDS = "interval: 95 %, Student's t over seeds; the test examples count as given"


def summarise(comparison: Comparison, workdir: pathlib.Path) -> str:
    """The table of a comparison and what it says.

    Args:
        comparison: what was measured.
        workdir: its directory, with the runs' predictions.

    Returns:
        Lines of text: the table, how its intervals are made, the verdict on the headline method
        against the baseline and against the best other method, and what failed.

    Raises:
        UsageError: seeds do not pair, or predictions are damaged or of another run.
    """
    replicates = bootstrap_of(comparison, workdir)
    results = method_results(comparison, replicates)
    parts = [_table(comparison, results)]
    if any(row.difference for row in results):
        parts.append(_notes(comparison, results, bootstrapped=replicates is not None))
    parts.append(verdict(comparison, replicates=replicates))
    parts.append(rival_verdict(comparison, replicates))
    parts.append(_failures(comparison))
    return "\n\n".join(part for part in parts if part)


def _table(comparison: Comparison, results: Sequence[MethodResult]) -> str:
    baseline = results[0].method
    several = sum(row.adjusted_p is not None for row in results) > 1
    head = ["method", "beta", f"test {comparison.metric}", "normalised error"]
    head += [f"against {baseline}", "interval", *["Holm p"] * several, "seconds"]
    rows = [_row(comparison, row, several) for row in results]
    return text_table([head, *rows])


def _row(comparison: Comparison, row: MethodResult, several: bool) -> list[str]:
    difference = row.difference
    has_beta = row.method in comparison.chosen_beta
    return [
        row.method,
        number(row.beta) if has_beta else "",
        spread(row.test.mean, row.test.std),
        "" if math.isnan(row.normalised_error) else f"{row.normalised_error:.3f}",
        points(difference.mean) if difference else "",
        f"[{points(difference.low)}, {points(difference.high)}]" if difference else "",
        *([_adjusted(row)] if several else []),
        f"{row.seconds:,.1f}",
    ]


def _adjusted(row: MethodResult) -> str:
    return "" if row.adjusted_p is None else p_value(row.adjusted_p)


def _notes(comparison: Comparison, results: Sequence[MethodResult], bootstrapped: bool) -> str:
    lines = [f"({INTERVAL if bootstrapped else INTERVAL_OF_SEEDS})"]
    judged = [row for row in results if row.adjusted_p is not None]
    if len(judged) > 1:
        shown = [
            row.method for row in judged if row.adjusted_p is not None and row.adjusted_p < 0.05
        ]
        which = ", ".join(shown) or "none"
        lines.append(
            f"(all {len(judged)} differences at once, Holm at 5 %: {which} differ"
            f"{'s' if len(shown) == 1 else ''} from {results[0].method})"
        )
    if at_end := _at_the_end_of_the_grid(comparison):
        lines.append(
            f"(beta is the smallest or largest that was tried, a wider grid may find a better one: "
            f"{', '.join(at_end)})"
        )
    return "\n".join(lines)


def _at_the_end_of_the_grid(comparison: Comparison) -> list[str]:
    """Methods whose chosen beta has tried ones on one side only."""
    found = []
    for method, beta in comparison.chosen_beta.items():
        tried = tune_by_beta(comparison.beta_search, method)
        if at_the_end(beta, tried):
            found.append(method)
    return found


def _failures(comparison: Comparison) -> str:
    lines = [
        f"left out: beta {number(trial.beta)} of {trial.method} failed in the search with seed "
        f"{trial.seed}: {trial.reason}"
        for trial in comparison.failed_trials
        if trial.stage == "search" and trial.method not in comparison.failed_methods
    ]
    lines += [f"failed: {method}: {reason}" for method, reason in comparison.failed_methods.items()]
    if lines:
        lines.append("The same command tries again what failed, and keeps the rest.")
    return "\n".join(lines)
