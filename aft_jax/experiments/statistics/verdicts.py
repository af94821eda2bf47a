"""A comparison in sentences: who wins by how much, or that nobody is shown to."""

import math

from aft_jax.errors import UsageError
from aft_jax.experiments.comparison.records import Comparison
from aft_jax.experiments.formatting import percent, points, quantity
from aft_jax.experiments.statistics.bootstrap import Replicates
from aft_jax.experiments.statistics.intervals import CONFIDENCE, ErrorReduction, PairedDifference
from aft_jax.experiments.statistics.results import (
    Contrast,
    contrast,
    headline_method,
    method_order,
    scores_by_seed,
    summary,
)
from aft_jax.training.methods import LEARNERS

SEEDS_ONLY = (
    "The interval is Student's t over seeds alone: it leaves out the draw of the test examples, "
    "whose predictions are not there to be resampled."
)


def verdict(
    comparison: Comparison, method: str | None = None, replicates: Replicates | None = None
) -> str:
    """Who wins against the baseline; never a winner when the interval contains zero.

    Args:
        comparison: what was measured.
        method: the method to judge against the baseline; by default the headline method.
        replicates: of `bootstrap_of`; None for Student's t over the seeds alone, which the
            sentence says then.

    Returns:
        One sentence: the relative error reduction and the difference, each with its interval, and
        the number of paired seeds.

    Raises:
        UsageError: seeds do not pair, or the method was not run against a baseline.
    """
    methods = method_order(comparison)
    if not methods:
        raise UsageError("trials is empty: a verdict needs at least one final run of one method.")
    baseline, *treatments = methods
    if not treatments:
        return f"No verdict: only {baseline} was run, so there is nothing to compare it with."
    name = method or headline_method(comparison) or baseline
    if name not in treatments:
        raise UsageError(
            f"a verdict needs a method compared with {baseline}; got {name!r}, "
            f"valid: {', '.join(treatments)}."
        )
    return _sentence(comparison, name, baseline, replicates)


def rival_verdict(comparison: Comparison, replicates: Replicates | None = None) -> str:
    """The headline method against the best other one that trains the student, the baseline apart.

    What runs at the cost of the teachers ("fconcat", "concat") is no rival of a small student.

    Args:
        comparison: what was measured.
        replicates: of `bootstrap_of`; None for Student's t over the seeds alone.

    Returns:
        Two sentences; empty where there is no third such method.

    Raises:
        UsageError: seeds do not pair.
    """
    headline = headline_method(comparison)
    others = [
        name for name in method_order(comparison)[1:] if name != headline and name not in LEARNERS
    ]
    if headline is None or headline in LEARNERS or not others:
        return ""
    means = {name: summary(list(scores_by_seed(comparison, name).values())).mean for name in others}
    best = max(others, key=lambda name: means[name])
    text = _sentence(comparison, headline, best, replicates)
    if len(others) > 1:
        text += f" {_pick(comparison, headline, best, len(others), replicates)}"
    return text


def _pick(
    comparison: Comparison, headline: str, best: str, count: int, replicates: Replicates | None
) -> str:
    """That the rival was chosen by its test result, and whether a win of it survives that."""
    text = (
        f"{best} has the highest test {comparison.metric} of {count} other methods, a choice by "
        "the test split that flatters it"
    )
    found = contrast(comparison, headline, best, replicates)
    if found and found.difference.mean < 0 and not found.difference.contains_zero:
        chance = min(1.0, count * found.difference.p_value)  # Bonferroni: any could have been best
        shown = "still shown" if chance < 1 - CONFIDENCE else "not shown"
        text += f"; corrected for that choice (p = {chance:.2g}) its lead is {shown}"
    return f"({text}.)"


def _sentence(
    comparison: Comparison, method: str, against: str, replicates: Replicates | None
) -> str:
    found = contrast(comparison, method, against, replicates)
    if found is None:
        return _without_interval(comparison, method, against)
    text = _outcome(comparison.metric, method, against, found)
    return text if found.difference.bootstrapped else f"{text} {SEEDS_ONLY}"


def _without_interval(comparison: Comparison, method: str, against: str) -> str:
    before, *others = scores_by_seed(comparison, against).values()
    after, *_ = scores_by_seed(comparison, method).values()
    if others:
        return (
            f"No verdict on {method} against {against}: all {len(others) + 1} seeds differ by the "
            f"same {points(after - before)} points of test {comparison.metric}, which says nothing "
            "of how much seeds scatter. Add seeds in config.compare.seeds, or test examples."
        )
    return (
        f"No verdict on {method} against {against}: an interval needs at least 2 paired seeds, "
        f"this comparison has 1. Its {points(after - before)} points of test {comparison.metric} "
        "may be the luck of that seed. Add seeds in config.compare.seeds, better five than two."
    )


def _outcome(metric: str, method: str, against: str, found: Contrast) -> str:
    difference, reduction = found.difference, found.reduction
    seeds = quantity(difference.count, "seed")
    if difference.contains_zero:
        return (
            f"No difference shown between {method} and {against} on {seeds}: "
            f"{_in_points(metric, difference)}{_perhaps_errors(reduction)}."
        )
    better = difference.mean > 0
    if reduction is None or math.isnan(reduction.mean):  # or no errors to reduce
        outcome = f"{method} {'wins' if better else 'loses'} against {against}"
    else:
        outcome = f"{method} {'lowers' if better else 'raises'} error by {_errors(reduction)}"
        outcome += f" against {against}"
    return f"{outcome} on {seeds}: {_in_points(metric, difference)}."


def _in_points(metric: str, difference: PairedDifference) -> str:
    contains = ", which contains zero" if difference.contains_zero else ""
    return (
        f"{points(difference.mean)} points of test {metric} (95 % interval "
        f"{points(difference.low)} to {points(difference.high)}{contains})"
    )


def _errors(reduction: ErrorReduction) -> str:
    """How many per cent the errors moved, and the interval of that, in the direction they moved."""
    text = f"{percent(abs(reduction.mean), 1)} %"
    if not reduction.bounded:
        return text
    bounds = [reduction.low, reduction.high]
    if reduction.mean < 0:
        bounds = [-reduction.high, -reduction.low]
    return f"{text} [{_bound(bounds[0])}, {_bound(bounds[1])}]"


def _bound(value: float) -> str:
    """In per cent, with as many decimals as a bound other than zero needs to differ from it."""
    decimals = 1
    while value and decimals < 6 and float(f"{100 * value:.{decimals}f}") == 0:
        decimals += 1
    return percent(value, decimals)


def _perhaps_errors(reduction: ErrorReduction | None) -> str:
    if reduction is None or reduction.mean != reduction.mean:  # NaN: no errors to reduce
        return ""
    if round(100 * reduction.mean, 1) == 0:
        return ", equally many errors"
    kind = "fewer" if reduction.mean > 0 else "more"
    return f", {percent(abs(reduction.mean), 1)} % {kind} errors, which may be chance"
