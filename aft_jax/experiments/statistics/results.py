"""What the numbers of a comparison say: means, and paired differences to a baseline."""

import dataclasses
import math
import statistics
from collections.abc import Collection, Mapping, Sequence

from aft_jax.errors import UsageError
from aft_jax.experiments.comparison.records import BetaTrial, Comparison, Trial
from aft_jax.experiments.statistics.bootstrap import Replicates
from aft_jax.experiments.statistics.intervals import (
    ErrorReduction,
    PairedDifference,
    difference_interval,
    error_reduction,
    holm,
)


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation of `count` values; `std` is NaN for a single value."""

    mean: float
    std: float
    count: int


@dataclasses.dataclass(frozen=True)
class Contrast:
    """One method against another on the test split, paired by seed.

    Attributes:
        difference: of the metric.
        reduction: of the errors; None for a metric that counts none.
    """

    difference: PairedDifference
    reduction: ErrorReduction | None


@dataclasses.dataclass(frozen=True)
class MethodResult:
    """One row of the result table.

    Attributes:
        method: its name.
        beta: its weight in the loss; 0 for a method without one.
        test: metric on the test split over seeds.
        seconds: median wall-clock time of a run.
        steps_per_second: median over runs.
        normalised_error: error of the method / error of plain fine-tuning with the same seed, mean
            over seeds; NaN without "stl", where it makes no errors, and for a metric that counts
            none.
        contrast: to the baseline; None for the baseline itself, and where fewer than two seeds
            leave no interval.
        adjusted_p: p-value of that difference by Holm's rule over all methods of the table; None
            where there is no contrast.
    """

    method: str
    beta: float
    test: Summary
    seconds: float
    steps_per_second: float
    normalised_error: float
    contrast: Contrast | None
    adjusted_p: float | None

    @property
    def difference(self) -> PairedDifference | None:
        """To the baseline, in the unit of the metric."""
        return self.contrast.difference if self.contrast else None


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


def paired(
    baseline: Mapping[int, float], treatment: Mapping[int, float]
) -> tuple[list[float], list[float]]:
    """Both sides in one order of seeds.

    Args:
        baseline: seed -> metric of the reference method.
        treatment: seed -> metric of the method under test.

    Returns:
        The metrics of both, place by place of the same seed.

    Raises:
        UsageError: the two have different seeds.
    """
    if baseline.keys() != treatment.keys():
        raise UsageError(
            "a paired difference needs the same seeds on both sides; "
            f"only the baseline has {sorted(baseline.keys() - treatment.keys())}, "
            f"only the treatment has {sorted(treatment.keys() - baseline.keys())}. "
            "Run the missing seeds; `aft-jax compare` keeps the finished ones."
        )
    seeds = sorted(baseline)
    return [baseline[seed] for seed in seeds], [treatment[seed] for seed in seeds]


def normalised_error(plain: Mapping[int, float], treatment: Mapping[int, float]) -> float:
    """Error of a method in units of plain fine-tuning's, as the paper averages it.

    mean_s (1 - treatment_s) / (1 - plain_s)

    Args:
        plain: seed -> accuracy of plain fine-tuning.
        treatment: seed -> accuracy of the method; the same seeds.

    Returns:
        The mean ratio; NaN where plain fine-tuning makes no errors in some run.

    Reference:
        Qiu et al., Transferring Knowledge from Large Foundation Models to Small Downstream Models,
        ICML 2024, figure 1.
    """
    pairs = list(zip(*paired(plain, treatment), strict=True))
    if any(reference >= 1 for reference, _ in pairs):
        return math.nan
    return statistics.fmean((1 - value) / (1 - reference) for reference, value in pairs)


def contrast(
    comparison: Comparison, method: str, against: str, replicates: Replicates | None = None
) -> Contrast | None:
    """One method against another.

    Args:
        comparison: what was measured.
        method: the method under test.
        against: the reference.
        replicates: of `bootstrap_of`; None for Student's t over the seeds alone.

    Returns:
        The contrast; None where there is no interval: for a single seed, and where all seeds differ
        alike, which shows no scatter, and no test examples were drawn.

    Raises:
        UsageError: the two have different seeds.
    """
    try:
        before, after = paired(
            scores_by_seed(comparison, against), scores_by_seed(comparison, method)
        )
    except UsageError as error:
        raise UsageError(f"{method} against {against}: {error}") from error
    if len(before) < 2:
        return None
    drawn = (replicates[against], replicates[method]) if replicates else None
    differences = [new - old for old, new in zip(before, after, strict=True)]
    if drawn is None and any(differences) and max(differences) - min(differences) < 1e-9:
        return None
    difference = difference_interval(differences, drawn[1] - drawn[0] if drawn else None)
    reduction = None
    if comparison.metric == "accuracy":
        reduction = error_reduction(
            [1 - value for value in before],
            [1 - value for value in after],
            (1 - drawn[0], 1 - drawn[1]) if drawn else None,
        )
    return Contrast(difference, reduction)


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


def at_the_end(beta: float, tried: Collection[float]) -> bool:
    """Whether a chosen beta has tried ones on one side only."""
    return len(tried) > 1 and beta in (min(tried), max(tried))


def method_results(
    comparison: Comparison, replicates: Replicates | None = None
) -> tuple[MethodResult, ...]:
    """The result table, baseline first.

    Args:
        comparison: what was measured.
        replicates: of `bootstrap_of`; None for Student's t over the seeds alone.

    Returns:
        One row for each method.

    Raises:
        UsageError: there are no trials, a method has other seeds than the baseline, or several
            betas.
    """
    methods = method_order(comparison)
    if not methods:
        raise UsageError("trials is empty: a report needs at least one final run of one method.")
    contrasts = {
        method: contrast(comparison, method, methods[0], replicates) for method in methods[1:]
    }
    known = {method: found for method, found in contrasts.items() if found}
    adjusted = dict(
        zip(known, holm([found.difference.p_value for found in known.values()]), strict=True)
    )
    return tuple(
        _method_result(comparison, method, contrasts.get(method), adjusted.get(method))
        for method in methods
    )


def _method_result(
    comparison: Comparison, method: str, found: Contrast | None, adjusted_p: float | None
) -> MethodResult:
    trials = by_seed(comparison, method)
    betas = sorted({trial.beta for trial in trials.values()})
    if len(betas) > 1:
        raise UsageError(
            f"trials: all final runs of a method have one beta, chosen on tune; {method!r} has "
            f"{betas}. Keep the runs at one of them."
        )
    scores = scores_by_seed(comparison, method)
    plain = scores_by_seed(comparison, "stl")
    counts_errors = comparison.metric == "accuracy" and plain
    return MethodResult(
        method=method,
        beta=betas[0],
        test=summary(list(scores.values())),
        # The first run of a method also compiles it; a median is not moved by that.
        seconds=statistics.median(trial.seconds for trial in trials.values()),
        steps_per_second=statistics.median(trial.steps_per_second for trial in trials.values()),
        normalised_error=normalised_error(plain, scores) if counts_errors else math.nan,
        contrast=found,
        adjusted_p=adjusted_p,
    )
