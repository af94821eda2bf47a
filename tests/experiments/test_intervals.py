import math

import numpy as np
import pytest

from aft_jax.experiments.statistics.bootstrap import replicate
from aft_jax.experiments.statistics.intervals import difference_interval, error_reduction, holm

# Student's t has a closed quantile for two degrees of freedom: with p = 0.975,
# t = (2p - 1) / sqrt(2 p (1 - p)) = 0.95 / sqrt(0.04875) = 4.302653, as in the tables.
T_TWO_DEGREES = 0.95 / math.sqrt(0.04875)


def test_interval_of_differences_one_two_three():
    # Mean 2, standard deviation 1, n = 3: 2 +- 4.302653 / sqrt(3) = 2 +- 2.484138.
    result = difference_interval([1.0, 2.0, 3.0])
    assert (result.mean, result.count, result.bootstrapped) == (2.0, 3, False)
    assert T_TWO_DEGREES / math.sqrt(3) == pytest.approx(2.484138, abs=1e-6)
    assert (result.low, result.high) == pytest.approx((-0.484138, 4.484138), abs=1e-6)
    assert result.contains_zero
    # With two degrees of freedom P(|T| > t) = 1 - t / sqrt(t^2 + 2); here t = 2 sqrt(3).
    assert result.p_value == pytest.approx(1 - math.sqrt(12) / math.sqrt(14))


def test_interval_of_two_differences():
    # One degree of freedom is Cauchy's distribution: t = tan(pi (p - 1/2)) = 12.706205. Differences
    # 1 and 3 have mean 2, standard deviation sqrt(2), standard error 1.
    result = difference_interval([1.0, 3.0])
    assert math.tan(0.475 * math.pi) == pytest.approx(12.706205, abs=1e-6)
    assert (result.low, result.high) == pytest.approx((-10.706205, 14.706205), abs=1e-6)
    assert result.p_value == pytest.approx(1 - 2 * math.atan(2) / math.pi)


@pytest.mark.parametrize(("value", "p_value"), [(1.0, 0.0), (0.0, 1.0)])
def test_equal_differences_have_an_interval_without_width(value, p_value):
    result = difference_interval([value, value, value])
    assert (result.mean, result.low, result.high) == (value, value, value)
    assert result.contains_zero == (value == 0)
    assert result.p_value == p_value


def test_each_bound_is_the_wider_one():
    # Of 0, ..., 1000 the bootstrap's bounds are 25 and 975; Student's t bounds are 500 +- width.
    draws = np.arange(1001.0)
    wide, narrow = 4.302653 * 300 / math.sqrt(3), 4.302653 * 3 / math.sqrt(3)
    result = difference_interval([497.0, 500.0, 503.0], draws)
    assert narrow < 475
    assert (result.low, result.high, result.bootstrapped) == (25.0, 975.0, True)
    result = difference_interval([200.0, 500.0, 800.0], draws)
    assert (result.low, result.high) == pytest.approx((500 - wide, 500 + wide), abs=1e-3)
    result = difference_interval([200.0, 500.0, 800.0], draws + 1000)
    assert (result.low, result.high) == pytest.approx((500 - wide, 1975.0), abs=1e-3)


def test_bounds_between_two_replicates_are_the_outer_ones():
    # Places 25.025 and 975.975 of 0, ..., 1001.
    result = difference_interval([500.0, 500.0], np.arange(1002.0))
    assert (result.low, result.high) == (25.0, 976.0)


@pytest.mark.parametrize("below", [0, 249, 250, 251, 5_000, 10_000])
def test_the_bootstrap_p_value_and_interval_agree(below):
    """Ten thousand replicates, of which `below` are not above zero."""
    draws = np.where(np.arange(10_000) < below, -1.0, 1.0)
    result = difference_interval([1.0, 1.0], draws)
    assert result.contains_zero == (result.p_value > 0.05)
    assert result.contains_zero == (below >= 250)


def test_the_larger_p_value_counts():
    assert difference_interval([1.0, 1.0], np.ones(999)).p_value == pytest.approx(2 / 1000)
    assert difference_interval([1.0, 3.0], np.ones(999)).p_value == pytest.approx(
        1 - 2 * math.atan(2) / math.pi
    )


def test_reduction_of_errors_in_closed_form():
    # Baseline errors all 0.2, so the ratio's interval is the mean's: errors 0.1, 0.12, 0.14 of the
    # treatment have mean 0.12 and half width 4.302653 * 0.02 / sqrt(3); all over 0.2.
    result = error_reduction([0.2, 0.2, 0.2], [0.1, 0.12, 0.14])
    half = T_TWO_DEGREES * 0.02 / math.sqrt(3) / 0.2
    assert result.mean == pytest.approx(0.4)
    assert (result.low, result.high) == pytest.approx((0.4 - half, 0.4 + half))
    assert result.bounded


def test_reduction_holds_the_ratios_that_the_t_interval_allows():
    """Fieller by its definition: at a bound, the t interval of y - rho x ends at zero."""
    x, y = [0.2, 0.25, 0.22, 0.3], [0.15, 0.16, 0.2, 0.21]
    result = error_reduction(x, y)
    for bound in (result.low, result.high):
        rho = 1 - bound
        at = difference_interval([b - rho * a for a, b in zip(x, y, strict=True)])
        assert min(abs(at.low), abs(at.high)) < 1e-12
    # The point lies inside.
    assert result.low < result.mean < result.high


def test_reduction_and_difference_agree_about_zero():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        x = 0.2 + 0.02 * rng.normal(size=4)
        y = x - rng.choice([0.0, 0.02, 0.04]) + 0.02 * rng.normal(size=4)
        draws = (0.2 + 0.01 * rng.normal(size=400), 0.19 + 0.01 * rng.normal(size=400))
        reduction = error_reduction(x.tolist(), y.tolist(), draws)
        difference = difference_interval((x - y).tolist(), draws[0] - draws[1])
        assert (reduction.low <= 0 <= reduction.high) == difference.contains_zero
        seen.add(difference.contains_zero)
    draws = (np.full(400, 0.3), np.full(400, 0.2))
    reduction = error_reduction([0.3, 0.31], [0.2, 0.21], draws)
    assert reduction.low > 0
    assert seen == {True}


def test_reduction_without_errors_or_with_too_few_has_no_bounds():
    nothing = error_reduction([0.0, 0.0], [0.1, 0.1])
    assert math.isnan(nothing.mean)
    assert not nothing.bounded
    assert not error_reduction([0.2], [0.1]).bounded
    few = error_reduction([0.0, 0.01], [0.0, 0.02])
    assert few.mean == pytest.approx(-1.0)
    assert not few.bounded


def test_replicates_without_errors_reduce_nothing_or_everything():
    errors = np.concatenate([np.zeros(100), np.full(300, 0.1)])
    both = error_reduction([0.1, 0.1], [0.1, 0.1], (errors, errors))
    assert (both.low, both.mean, both.high) == (0.0, 0.0, 0.0)
    worse = error_reduction([0.1, 0.1], [0.1, 0.1], (errors, np.full(400, 0.1)))
    assert worse.low == -math.inf


def test_holm_in_literal_numbers():
    # 0.01 * 4; 0.02 * 3; 0.03 * 2 = 0.06; 0.04 * 1 is below that.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("examples_differ", [False, True])
def test_the_interval_covers_the_true_difference(seeds, examples_differ):
    """Normal effects of seeds, and of examples: 95 % intervals that hold the truth in 93 %."""
    rng = np.random.default_rng(seeds)
    simulations, rows, truth = 300, 150, 0.04
    covered = covered_by_percentile = 0
    for number in range(simulations):
        chance = 0.7 + 0.08 * examples_differ * rng.normal(size=rows)
        effect = 0.06 * examples_differ * rng.normal(size=rows)
        shifts = 0.03 * rng.normal(size=(2, seeds, 1))
        plain = rng.random((seeds, rows)) < chance + shifts[0]
        better = rng.random((seeds, rows)) < chance + effect + truth + shifts[1]
        correct = {"plain": plain.astype(float), "better": better.astype(float)}
        found = replicate(correct, replicates=300, seed=number)
        drawn = found["better"] - found["plain"]
        result = difference_interval((better.mean(1) - plain.mean(1)).tolist(), drawn)
        covered += result.low <= truth <= result.high
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered_by_percentile += low <= truth <= high
    assert covered / simulations >= 0.93
    assert covered >= covered_by_percentile


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_covers_where_all_scatter_is_of_seeds(seeds):
    """Here the percentile of three seeds is far too narrow, whatever the test examples."""
    rng = np.random.default_rng(seeds)
    simulations, truth = 1_000, 0.02
    differences = truth + 0.05 * rng.normal(size=(simulations, seeds))
    covered = covered_by_percentile = 0
    for row in differences:
        drawn = row[rng.integers(0, seeds, (400, seeds))].mean(axis=1)
        result = difference_interval(row.tolist(), drawn)
        covered += result.low <= truth <= result.high
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered_by_percentile += low <= truth <= high
    assert covered / simulations >= 0.93
    if seeds == 3:
        assert covered_by_percentile / simulations < 0.85
