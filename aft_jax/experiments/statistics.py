"""What the numbers of a comparison say: means, paired differences, and a verdict in words."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

import scipy.stats

from aft_jax.errors import UsageError
from aft_jax.experiments.formatting import percent, points, quantity
from aft_jax.experiments.records import BetaTrial, Comparison, Trial

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation of `count` values; `std` is NaN for a single value."""

    mean: float
    std: float
    count: int


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Mean of `count` paired differences with the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def contains_zero(self) -> bool:
        """Whether the interval allows that there is no difference at all."""
        return self.low <= 0 <= self.high


@dataclasses.dataclass(frozen=True)
class MethodResult:
    """One row of the result table.

    Attributes:
        method: regularizer name.
        beta: its weight in the loss.
        test: metric on the test split over seeds.
        seconds: median wall-clock time of a run.
        difference: to the baseline on the test split; None for the baseline itself, and where
            fewer than two seeds leave no interval.
    """

    method: str
    beta: float
    test: Summary
    seconds: float
    difference: PairedDifference | None


def summary(values: Sequence[float]) -> Summary:
    """Mean and sample standard deviation (n - 1 in the denominator).

    Args:
        values: at least one number.

    Returns:
        Their summary; the standard deviation of a single value is NaN.

    Raises:
        UsageError: there are no values.
    """
    if not values:
        raise UsageError("a summary needs at least one value, got none: run at least one seed.")
    std = statistics.stdev(values) if len(values) > 1 else math.nan
    return Summary(statistics.fmean(values), std, len(values))


def paired_difference(
    baseline: Mapping[int, float], treatment: Mapping[int, float]
) -> PairedDifference:
    """95 % Student-t interval of the mean of treatment - baseline, paired by seed.

    mean +- t(0.975; n - 1) * s / sqrt(n), with s the sample standard deviation of n differences.

    Args:
        baseline: seed -> metric of the reference method.
        treatment: seed -> metric of the method under test.

    Returns:
        Mean and interval, in the unit of the metric.

    Raises:
        UsageError: the two have different seeds, or fewer than two.
    """
    if baseline.keys() != treatment.keys():
        raise UsageError(
            "a paired difference needs the same seeds on both sides; "
            f"only the baseline has {sorted(baseline.keys() - treatment.keys())}, "
            f"only the treatment has {sorted(treatment.keys() - baseline.keys())}. "
            "Run the missing seeds; `aft-jax compare` keeps the finished ones."
        )
    if len(baseline) < 2:
        raise UsageError(
            f"an interval needs at least 2 paired seeds, got {len(baseline)}: run more seeds."
        )
    differences = summary([treatment[seed] - baseline[seed] for seed in sorted(baseline)])
    quantile = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, differences.count - 1))
    half = quantile * differences.std / math.sqrt(differences.count)
    mean = differences.mean
    return PairedDifference(mean, mean - half, mean + half, differences.count)


def relative_error_reduction(baseline: float, treatment: float) -> float:
    """The share of the baseline's errors that the treatment removes.

    (treatment - baseline) / (1 - baseline); negative where the treatment makes more errors.

    Args:
        baseline: mean accuracy of the reference method, a fraction.
        treatment: mean accuracy of the method under test, a fraction.

    Returns:
        The reduction, a fraction; NaN where the baseline makes no errors.
    """
    return (treatment - baseline) / (1 - baseline) if baseline < 1 else math.nan


def method_order(comparison: Comparison) -> tuple[str, ...]:
    """The methods in the order of a table: the baseline ("stl" if there) first, then as run."""
    found = list(dict.fromkeys(trial.method for trial in comparison.trials))
    return tuple(sorted(found, key=lambda method: method != "stl"))


def headline_method(comparison: Comparison) -> str | None:
    """The method the verdict is about: "aft" if there, else the first after the baseline."""
    treatments = method_order(comparison)[1:]
    return "aft" if "aft" in treatments else next(iter(treatments), None)


def by_seed(comparison: Comparison, method: str) -> dict[int, Trial]:
    """The final runs of one method, seed -> trial, in the order of the seeds."""
    trials = (trial for trial in comparison.trials if trial.method == method)
    return {trial.seed: trial for trial in sorted(trials, key=lambda trial: trial.seed)}


def scores_by_seed(comparison: Comparison, method: str) -> dict[int, float]:
    """The metric of one method on the test split, seed -> fraction."""
    return {seed: trial.test for seed, trial in by_seed(comparison, method).items()}


def tune_by_beta(search: Sequence[BetaTrial], method: str) -> dict[float, Summary]:
    """The search of one method, beta -> metric on the tune split over seeds, in order of beta."""
    scores: dict[float, list[float]] = {}
    for trial in sorted(search, key=lambda trial: trial.beta):
        if trial.method == method:
            scores.setdefault(trial.beta, []).append(trial.tune)
    return {beta: summary(values) for beta, values in scores.items()}


def method_results(comparison: Comparison) -> tuple[MethodResult, ...]:
    """The result table, baseline first.

    Args:
        comparison: what was measured.

    Returns:
        One row for each method.

    Raises:
        UsageError: there are no trials, a method has other seeds than the baseline, or several
            betas.
    """
    methods = method_order(comparison)
    if not methods:
        raise UsageError("trials is empty: a report needs at least one final run of one method.")
    baseline = scores_by_seed(comparison, methods[0])
    return tuple(_method_result(comparison, method, methods[0], baseline) for method in methods)


def verdict(comparison: Comparison, method: str | None = None) -> str:
    """Who wins, in one sentence that never names a winner when the interval contains zero.

    Args:
        comparison: what was measured.
        method: the method to judge against the baseline; by default the headline method.

    Returns:
        The sentence: the outcome, the difference with its interval, the number of paired seeds
        and the relative error reduction.

    Raises:
        UsageError: seeds do not pair, or the method was not run against a baseline.
    """
    results = {result.method: result for result in method_results(comparison)}
    baseline, *treatments = results
    if not treatments:
        return f"No verdict: only {baseline} was run, so there is nothing to compare it with."
    name = method or headline_method(comparison) or baseline
    if name not in treatments:
        raise UsageError(
            f"a verdict needs a method compared with {baseline}; got {name!r}, "
            f"valid: {', '.join(treatments)}."
        )
    difference = results[name].difference
    if difference is None:
        return (
            f"No verdict on {name} against {baseline}: an interval needs at least 2 paired seeds, "
            f"this comparison has {results[name].test.count}."
        )
    errors = _errors_in_words(comparison.metric, results[baseline], results[name])
    return _difference_in_words(comparison.metric, baseline, name, difference) + errors + "."


def _method_result(
    comparison: Comparison, method: str, baseline: str, reference: Mapping[int, float]
) -> MethodResult:
    trials = by_seed(comparison, method)
    betas = sorted({trial.beta for trial in trials.values()})
    if len(betas) > 1:
        raise UsageError(
            f"trials: all final runs of a method have one beta, chosen on tune; {method!r} has "
            f"{betas}. Keep the runs at one of them."
        )
    scores = scores_by_seed(comparison, method)
    difference = None
    if method != baseline and not (len(scores) == 1 and scores.keys() == reference.keys()):
        try:
            difference = paired_difference(reference, scores)
        except UsageError as error:
            raise UsageError(f"{method} against {baseline}: {error}") from error
    # The first run of a method also compiles it; a median is not moved by that.
    seconds = statistics.median(trial.seconds for trial in trials.values())
    return MethodResult(method, betas[0], summary(list(scores.values())), seconds, difference)


def _difference_in_words(
    metric: str, baseline: str, method: str, difference: PairedDifference
) -> str:
    opening = f"{method} {'wins' if difference.mean > 0 else 'loses'} against {baseline}"
    contains = ""
    if difference.contains_zero:
        opening = f"No difference shown between {method} and {baseline}"
        contains = ", which contains zero"
    return (
        f"{opening}: {points(difference.mean)} points of test {metric} over "
        f"{quantity(difference.count, 'paired seed')} (95 % interval {points(difference.low)} to "
        f"{points(difference.high)}{contains})"
    )


def _errors_in_words(metric: str, baseline: MethodResult, treatment: MethodResult) -> str:
    """The relative error reduction; only an accuracy has errors to count."""
    reduction = relative_error_reduction(baseline.test.mean, treatment.test.mean)
    if metric != "accuracy" or math.isnan(reduction):
        return ""
    if round(100 * reduction, 1) == 0:
        return ", equally many errors"
    words = f", {percent(abs(reduction), 1)} % {'fewer' if reduction > 0 else 'more'} errors"
    shown = treatment.difference is not None and not treatment.difference.contains_zero
    return words if shown else f"{words}, which may be chance"
