import dataclasses
import math

import pytest

from aft_jax.errors import UsageError
from aft_jax.experiments.formatting import points
from aft_jax.experiments.statistics import (
    method_order,
    method_results,
    paired_difference,
    relative_error_reduction,
    summary,
    tune_by_beta,
    verdict,
)

# Student's t has a closed quantile for two degrees of freedom: with p = 0.975,
# t = (2p - 1) / sqrt(2 p (1 - p)) = 0.95 / sqrt(0.04875) = 4.302653, as in the tables.
T_TWO_DEGREES = 0.95 / math.sqrt(0.04875)

MINUS = "\N{MINUS SIGN}"


def seeds(*values):
    return dict(enumerate(values))


def test_summary_of_literal_values():
    result = summary([1.0, 2.0, 3.0])
    assert (result.mean, result.std, result.count) == (2.0, 1.0, 3)


def test_summary_of_one_value_has_no_spread():
    result = summary([0.5])
    assert result.mean == 0.5
    assert math.isnan(result.std)


def test_summary_of_nothing_is_refused():
    with pytest.raises(UsageError, match="at least one value, got none"):
        summary([])


def test_interval_of_differences_one_two_three():
    # Mean 2, standard deviation 1, n = 3: 2 +- 4.302653 / sqrt(3) = 2 +- 2.484138.
    result = paired_difference(seeds(10.0, 10.0, 10.0), seeds(11.0, 12.0, 13.0))
    assert (result.mean, result.count) == (2.0, 3)
    assert T_TWO_DEGREES / math.sqrt(3) == pytest.approx(2.484138, abs=1e-6)
    assert result.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert result.high == pytest.approx(2 + 2.484138, abs=1e-6)
    assert result.contains_zero


def test_interval_of_two_differences():
    # One degree of freedom is Cauchy's distribution: t = tan(pi (p - 1/2)) = 12.706205. Differences
    # 1 and 3 have mean 2, standard deviation sqrt(2), standard error 1.
    result = paired_difference(seeds(0.0, 0.0), seeds(1.0, 3.0))
    assert math.tan(0.475 * math.pi) == pytest.approx(12.706205, abs=1e-6)
    assert (result.low, result.high) == pytest.approx((-10.706205, 14.706205), abs=1e-6)


def test_pairs_are_joined_by_seed_not_by_order():
    result = paired_difference({0: 1.0, 1: 5.0, 2: 9.0}, {2: 10.0, 0: 2.0, 1: 6.0})
    assert (result.mean, result.low, result.high) == (1.0, 1.0, 1.0)
    assert not result.contains_zero


def test_an_interval_that_ends_at_zero_contains_it():
    assert paired_difference(seeds(1.0, 1.0), seeds(1.0, 1.0)).contains_zero


def test_unequal_seeds_are_refused():
    with pytest.raises(UsageError, match=r"only the baseline has \[3\].*treatment has \[4, 5\]"):
        paired_difference({0: 1.0, 3: 1.0}, {0: 1.0, 4: 1.0, 5: 1.0})


def test_a_single_pair_is_refused():
    with pytest.raises(UsageError, match="at least 2 paired seeds, got 1"):
        paired_difference({0: 1.0}, {0: 2.0})


def test_relative_error_reduction():
    assert relative_error_reduction(0.8, 0.9) == pytest.approx(0.5)
    assert relative_error_reduction(0.9, 0.8) == pytest.approx(-1.0)
    assert math.isnan(relative_error_reduction(1.0, 1.0))


def test_verdict_of_an_interval_with_zero_names_no_winner(comparison):
    # Errors fall from 10 % to 8 %: one fifth.
    sentence = verdict(comparison)
    assert sentence == (
        "No difference shown between aft and stl: +2.00 points of test accuracy over 3 paired "
        f"seeds (95 % interval {MINUS}0.48 to +4.48, which contains zero), 20.0 % fewer "
        "errors, which may be chance."
    )
    assert "wins" not in sentence


def test_verdict_of_a_win(with_trials):
    # Differences 2.0, 2.1, 2.2 points: mean 2.1, half width 0.1 * 2.484138 = 0.25;
    # errors fall from 10 % to 7.9 %.
    assert verdict(with_trials(stl=[0.9, 0.9, 0.9], aft=[0.92, 0.921, 0.922])) == (
        "aft wins against stl: +2.10 points of test accuracy over 3 paired seeds "
        "(95 % interval +1.85 to +2.35), 21.0 % fewer errors."
    )


def test_verdict_of_a_loss(with_trials):
    assert verdict(with_trials(stl=[0.9, 0.9, 0.9], aft=[0.88, 0.879, 0.878])) == (
        f"aft loses against stl: {MINUS}2.10 points of test accuracy over 3 paired seeds "
        f"(95 % interval {MINUS}2.35 to {MINUS}1.85), 21.0 % more errors."
    )


def test_verdict_of_equal_runs(with_trials):
    assert verdict(with_trials(stl=[0.9, 0.8], aft=[0.9, 0.8])) == (
        "No difference shown between aft and stl: 0.00 points of test accuracy over 2 paired seeds "
        "(95 % interval 0.00 to 0.00, which contains zero), equally many "
        "errors."
    )


def test_verdict_counts_errors_only_of_an_accuracy(comparison):
    assert "errors" not in verdict(dataclasses.replace(comparison, metric="matthews"))


def test_verdict_without_enough_seeds(with_trials):
    assert verdict(with_trials(stl=[0.9], aft=[0.95])) == (
        "No verdict on aft against stl: an interval needs at least 2 paired seeds, "
        "this comparison has 1."
    )


def test_verdict_on_one_method_alone(with_trials):
    assert verdict(with_trials(aft=[0.9, 0.91])).startswith("No verdict: only aft was run")


def test_verdict_is_about_aft_if_there_and_any_method_on_request(with_trials):
    many = with_trials(kd=[0.9, 0.92], stl=[0.8, 0.82], aft=[0.7, 0.72])
    assert method_order(many) == ("stl", "kd", "aft")
    assert verdict(many).startswith("aft loses against stl")
    assert verdict(many, "kd").startswith("kd wins against stl")
    with pytest.raises(UsageError, match="got 'ft', valid: kd, aft"):
        verdict(many, "ft")


def test_without_stl_the_first_method_is_the_baseline(with_trials):
    assert verdict(with_trials(kd=[0.8, 0.82], ft=[0.9, 0.92])).startswith("ft wins against kd")


def test_methods_with_other_seeds_are_refused_by_name(with_trials):
    with pytest.raises(UsageError, match=r"aft against stl: .*only the baseline has \[1\]"):
        method_results(with_trials(stl=[0.9, 0.9], aft=[0.9]))


def test_a_method_with_two_betas_is_refused(comparison):
    first, *others = comparison.trials
    mixed = (dataclasses.replace(first, beta=1.0), *others)
    with pytest.raises(UsageError, match=r"one beta, chosen on tune; 'stl' has \[0.0, 1.0\]"):
        method_results(dataclasses.replace(comparison, trials=mixed))


def test_an_empty_comparison_is_refused(comparison):
    with pytest.raises(UsageError, match="trials is empty"):
        verdict(dataclasses.replace(comparison, trials=()))


def test_tune_by_beta_averages_seeds(comparison):
    rows = tune_by_beta(comparison.beta_search, "aft")
    assert list(rows) == [1.0, 3.0, 10.0]
    assert [row.mean for row in rows.values()] == pytest.approx([0.805, 0.845, 0.825])


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0123, "+1.23"),
        (-0.0123, f"{MINUS}1.23"),
        (0.0, "0.00"),
        (1e-17, "0.00"),
        (0.00002, "+0.002"),
        (-0.0000004, f"{MINUS}0.00004"),
    ],
)
def test_points_never_show_a_difference_as_zero(fraction, text):
    assert points(fraction) == text
