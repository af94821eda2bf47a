"""95 % intervals of a paired difference and of a ratio of errors, and what several of them prove.

A bound is the wider one of two: Student's t over the paired seeds, and the percentile of a
bootstrap over seeds and test examples. The bootstrap sees the draw of the examples, which Student's
t does not; of three to five seeds it sees too little, which Student's t knows.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.stats

from aft_jax.types import Float

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Mean of `count` paired differences with the bounds of its 95 % interval.

    Attributes:
        mean: of the differences.
        low: lower bound.
        high: upper bound.
        count: of paired seeds.
        p_value: two-sided, of no difference; on each side the larger tail of Student's t and of the
            bootstrap counts, so it is below 0.05 exactly where the interval leaves zero out.
        bootstrapped: whether the interval covers the draw of the test examples too; if not, it is
            Student's t over the seeds alone.
    """

    mean: float
    low: float
    high: float
    count: int
    p_value: float
    bootstrapped: bool

    @property
    def contains_zero(self) -> bool:
        """Whether the interval allows that there is no difference at all."""
        return self.low <= 0 <= self.high


@dataclasses.dataclass(frozen=True)
class ErrorReduction:
    """The share of the baseline's errors that a method removes, with its 95 % interval.

    Attributes:
        mean: 1 - (mean error of the method) / (mean error of the baseline); negative where the
            method makes more errors; NaN where the baseline makes none.
        low: lower bound; -inf where the baseline makes too few errors to bound their ratio.
        high: upper bound; inf likewise.
    """

    mean: float
    low: float
    high: float

    @property
    def bounded(self) -> bool:
        """Whether there is an interval to show."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def difference_interval(
    differences: Sequence[float], replicates: Float[np.ndarray, " _"] | None = None
) -> PairedDifference:
    """The interval of the mean of paired differences.

    mean +- t(0.975; n - 1) * s / sqrt(n), with s the sample standard deviation; where there are
    replicates, each bound moves out to their 2.5 % or 97.5 % order statistic if that is wider.

    Args:
        differences: one for each paired seed, at least two.
        replicates: the bootstrap's differences.

    Returns:
        Mean, interval and p-value, in the unit of the differences.
    """
    values = np.asarray(differences, np.float64)
    count, mean = len(values), float(np.mean(values))
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = _quantile(count) * error
    low, high = mean - half, mean + half
    at_most, at_least = _tails(mean, error, count)
    if replicates is not None:
        low, high = _widened(low, high, replicates)
        total = len(replicates) + 1
        at_most = max(at_most, (np.count_nonzero(replicates <= 0) + 1) / total)
        at_least = max(at_least, (np.count_nonzero(replicates >= 0) + 1) / total)
    p_value = min(1.0, 2 * min(at_most, at_least))
    return PairedDifference(mean, low, high, count, p_value, replicates is not None)


def error_reduction(
    baseline: Sequence[float],
    treatment: Sequence[float],
    replicates: tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]] | None = None,
) -> ErrorReduction:
    """The interval of 1 - (mean error of the treatment) / (mean error of the baseline).

    Student's t for a ratio is Fieller's interval: the ratios rho for which the t interval of
    treatment - rho * baseline contains zero. It leaves zero out exactly where the interval of the
    difference does, and so do the bootstrap's order statistics.

    Args:
        baseline: errors of the reference method, one for each paired seed, fractions.
        treatment: errors of the method under test, for the same seeds.
        replicates: the bootstrap's mean errors of both.

    Returns:
        The reduction, a fraction; with a single seed or a baseline without errors, unbounded.

    Reference:
        Fieller, Some problems in interval estimation, JRSS B 1954.
    """
    x, y = np.asarray(baseline, np.float64), np.asarray(treatment, np.float64)
    if np.mean(x) <= 0:
        return ErrorReduction(math.nan, -math.inf, math.inf)
    mean = 1 - float(np.mean(y) / np.mean(x))
    if len(x) < 2:
        return ErrorReduction(mean, -math.inf, math.inf)
    low, high = _fieller(x, y)
    if replicates is not None:
        low, high = _widened(low, high, _reductions(*replicates))
    return ErrorReduction(mean, low, high)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values that hold for all of several tests at once, by Holm's step-down rule.

    The k-th smallest of m is multiplied by m - k + 1; none is below a smaller one's, nor above 1.

    Args:
        p_values: of the single tests.

    Returns:
        The adjusted ones in the same order.

    Reference:
        Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 1979.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _quantile(count: int) -> float:
    return float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))


def _widened(low: float, high: float, replicates: Float[np.ndarray, " _"]) -> tuple[float, float]:
    """The wider bound on each side; order statistics, for no interpolation crosses zero."""
    tail = (1 - CONFIDENCE) / 2
    lowest = float(np.quantile(replicates, tail, method="lower"))
    highest = float(np.quantile(replicates, 1 - tail, method="higher"))
    return min(low, lowest), max(high, highest)


def _tails(mean: float, error: float, count: int) -> tuple[float, float]:
    """Student's chances of a mean this high if the truth is at most zero, this low if at least."""
    if error == 0:
        return float(mean <= 0), float(mean >= 0)
    statistic, degrees = mean / error, count - 1
    return float(scipy.stats.t.sf(statistic, degrees)), float(scipy.stats.t.cdf(statistic, degrees))


def _reductions(
    baseline: Float[np.ndarray, " r"], treatment: Float[np.ndarray, " r"]
) -> Float[np.ndarray, " r"]:
    """1 - treatment / baseline; without errors on either side nothing is reduced."""
    ratios = np.divide(treatment, baseline, out=np.full_like(treatment, np.inf), where=baseline > 0)
    return 1 - np.where((baseline <= 0) & (treatment <= 0), 1.0, ratios)


def _fieller(x: Float[np.ndarray, " s"], y: Float[np.ndarray, " s"]) -> tuple[float, float]:
    """1 - rho at the ends of Fieller's interval; unbounded where mean(x) may be zero."""
    scale = _quantile(len(x)) ** 2 / len(x)
    covariance = np.cov(x, y)
    a = np.mean(x) ** 2 - scale * covariance[0, 0]
    b = np.mean(x) * np.mean(y) - scale * covariance[0, 1]
    c = np.mean(y) ** 2 - scale * covariance[1, 1]
    if a <= 0:
        return -math.inf, math.inf
    root = math.sqrt(max(b * b - a * c, 0.0))
    return 1 - float((b + root) / a), 1 - float((b - root) / a)
