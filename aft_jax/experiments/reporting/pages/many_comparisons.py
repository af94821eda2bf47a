"""Several comparisons on one page: every method's error as a share of plain fine-tuning's."""

import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aft_jax.experiments.comparison.records import Comparison, load
from aft_jax.experiments.formatting import percent, points, quantity, whole
from aft_jax.experiments.reporting.page import Column, Picture, Section, Table, figure_cell, words
from aft_jax.experiments.reporting.pages.methods import meanings
from aft_jax.experiments.reporting.pages.results import outcome, result_table
from aft_jax.experiments.reporting.plots import many as plots_of_many
from aft_jax.experiments.statistics.bootstrap import bootstrap_of
from aft_jax.experiments.statistics.results import MethodResult, headline_method, method_results
from aft_jax.experiments.statistics.verdicts import verdict

BASELINE = "stl"


class _Compared(NamedTuple):
    """One comparison: what it is called, what was measured, its result table, its verdict."""

    name: str
    comparison: Comparison
    results: Sequence[MethodResult]
    verdict: str


def comparison_sections(directories: Sequence[pathlib.Path]) -> tuple[str, list[Section]]:
    """The overview over comparisons, then the result table of each.

    Args:
        directories: of finished comparisons.

    Returns:
        (the sentence to take away, the sections).

    Raises:
        UsageError: a `comparison.json` is malformed, or its methods have different seeds.
    """
    found = _named([_compared(directory) for directory in directories])
    errors = normalised(found)
    sections = [_overview(found, errors), _verdicts(found)]
    for number, one in enumerate(found, start=1):
        table = result_table(f"results_{number}", one.comparison.metric, one.results)
        sections.append(Section(one.name, tables=[table], notes=[one.verdict]))
    return _lead(found, errors), sections


def normalised(found: Sequence[_Compared]) -> dict[str, dict[str, float]]:
    """Every method's normalised errors, the smallest mean first.

    Args:
        found: the comparisons.

    Returns:
        Method -> comparison -> its error divided by that of plain fine-tuning.
    """
    errors: dict[str, dict[str, float]] = {}
    for one in found:
        for result in one.results:
            if not math.isnan(result.normalised_error):
                errors.setdefault(result.method, {})[one.name] = result.normalised_error
    return dict(sorted(errors.items(), key=lambda item: statistics.fmean(item[1].values())))


def _compared(directory: pathlib.Path) -> _Compared:
    comparison = load(directory)
    replicates = bootstrap_of(comparison, directory)
    results = method_results(comparison, replicates)
    name = f"{comparison.dataset['name']}, {comparison.student['name']}"
    return _Compared(name, comparison, results, verdict(comparison, replicates=replicates))


def _named(found: Sequence[_Compared]) -> list[_Compared]:
    """Names that tell the comparisons apart, numbered where data set and student are the same."""
    counts: dict[str, int] = {}
    named = []
    for one in found:
        counts[one.name] = counts.get(one.name, 0) + 1
        suffix = f" ({counts[one.name]})" if counts[one.name] > 1 else ""
        named.append(one._replace(name=one.name + suffix))
    return named


def _lead(found: Sequence[_Compared], errors: Mapping[str, Mapping[str, float]]) -> str:
    over = quantity(len(found), "comparison")
    treatments = {m: e for m, e in errors.items() if m != BASELINE and len(e) == len(found)}
    if not treatments:
        return f"No method was run against {BASELINE} in all of {over}."
    parts = [f"{m} {statistics.fmean(e.values()):.3f}" for m, e in treatments.items()]
    return (
        f"Mean test error over {over} as a share of that of plain fine-tuning: {', '.join(parts)}."
    )


def _overview(found: Sequence[_Compared], errors: Mapping[str, Mapping[str, float]]) -> Section:
    if not errors:
        return Section("All comparisons")
    columns = [
        Column("method", "method", numeric=False),
        Column("mean", "mean"),
        *(Column(f"comparison_{n}", one.name) for n, one in enumerate(found, start=1)),
        Column("comparisons", "comparisons"),
    ]
    rows = []
    for method, values in errors.items():
        mean = statistics.fmean(values.values())
        cells = [values.get(one.name) for one in found]
        rows.append(
            [
                words(method),
                figure_cell(mean, "{:.3f}".format),
                *(figure_cell(value, "{:.3f}".format) for value in cells),
                figure_cell(len(values), whole),
            ]
        )
    names = list(dict.fromkeys(result.method for one in found for result in one.results))
    order = sorted(names, key=lambda name: name != BASELINE)
    caption = (
        "Small marks are single comparisons, the large one is their mean; left of 1 a method "
        f"makes fewer errors than {BASELINE}."
    )
    if everywhere := [method for method, values in errors.items() if len(values) == len(found)]:
        mean = statistics.fmean(errors[everywhere[0]].values())
        caption += (
            f" Of the methods of all comparisons {everywhere[0]} has the smallest ({mean:.3f})."
        )
    figure = plots_of_many.normalised_errors(
        {method: list(values.values()) for method, values in errors.items()}, order, BASELINE
    )
    note = (
        f"Test error of a method divided by that of {BASELINE} with the same seed, averaged over "
        "seeds, then over comparisons: the measure of the paper's first figure. Means over "
        "different comparisons do not compare."
    )
    table = Table("normalised_errors", columns, rows, note=note)
    picture = Picture("normalised_errors", "Errors against plain fine-tuning", caption, figure)
    return Section("All comparisons", meanings(order), [table], [picture])


def _verdicts(found: Sequence[_Compared]) -> Section:
    columns = [
        Column("comparison", "comparison", numeric=False),
        Column("method", "method", numeric=False),
        Column("baseline_mean", "baseline, test (%)"),
        Column("mean", "method, test (%)"),
        Column("difference", "difference (points)"),
        Column("difference_low", "95 % interval from"),
        Column("difference_high", "to"),
        Column("seeds", "seeds"),
        Column("test_examples", "test examples"),
    ]
    rows = []
    for one in found:
        judged = headline_method(one.comparison)
        result = next((row for row in one.results if row.method == judged), one.results[0])
        difference, tone = result.difference, outcome(result)
        bounds = (difference.mean, difference.low, difference.high) if difference else (None,) * 3
        baseline, examples = one.results[0].test.mean, one.comparison.dataset["splits"]["test"]
        rows.append(
            [
                words(one.name),
                words(result.method),
                figure_cell(baseline, percent),
                figure_cell(result.test.mean, percent),
                *(figure_cell(value, points, tone) for value in bounds),
                figure_cell(result.test.count, whole),
                figure_cell(examples, whole),
            ]
        )
    return Section("One by one", tables=[Table("comparisons", columns, rows)])
