import dataclasses
import math

import numpy as np
import pytest

from aft_jax.errors import UsageError
from aft_jax.experiments.formatting import points
from aft_jax.experiments.statistics.results import (
    headline_method,
    method_order,
    method_results,
    normalised_error,
    paired,
    summary,
    tune_by_beta,
)

MINUS = "\N{MINUS SIGN}"


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


def test_pairs_are_joined_by_seed_not_by_order():
    before, after = paired({0: 1.0, 1: 5.0, 2: 9.0}, {2: 10.0, 0: 2.0, 1: 6.0})
    assert (before, after) == ([1.0, 5.0, 9.0], [2.0, 6.0, 10.0])


def test_unequal_seeds_are_refused():
    with pytest.raises(UsageError, match=r"only the baseline has \[3\].*treatment has \[4, 5\]"):
        paired({0: 1.0, 3: 1.0}, {0: 1.0, 4: 1.0, 5: 1.0})


def test_normalised_error_averages_ratios_of_seeds():
    # 0.1 / 0.2 and 0.1 / 0.1, not 0.2 / 0.3.
    assert normalised_error({0: 0.8, 1: 0.9}, {1: 0.9, 0: 0.9}) == pytest.approx(0.75)
    assert math.isnan(normalised_error({0: 1.0, 1: 0.9}, {0: 0.9, 1: 0.9}))


def test_a_row_of_the_table(comparison):
    plain, aft = method_results(comparison)
    assert (plain.method, plain.beta, plain.contrast, plain.difference) == ("stl", 0.0, None, None)
    assert plain.normalised_error == pytest.approx(1.0)
    assert plain.adjusted_p is None
    # Errors 0.09, 0.08, 0.07 against 0.1 each.
    assert (aft.method, aft.beta) == ("aft", 3.0)
    assert aft.normalised_error == pytest.approx(0.8)
    assert aft.test.mean == pytest.approx(0.92)
    assert aft.seconds == 1.5  # the median; seed 0 took 10.5
    assert aft.steps_per_second == 100.0
    assert aft.difference is not None
    assert aft.difference.low == pytest.approx(0.02 - 0.02484138)
    assert not aft.difference.bootstrapped
    assert aft.contrast is not None
    assert aft.contrast.reduction is not None
    # The baseline's errors do not scatter, so the ratio's bounds are the difference's over 0.1.
    assert aft.contrast.reduction.low == pytest.approx(0.2 - 0.2484138)
    assert aft.adjusted_p == pytest.approx(aft.difference.p_value)


def test_replicates_widen_a_row(comparison):
    draws = np.linspace(0.8, 1.0, 1001)
    _, aft = method_results(comparison, {"stl": np.full(1001, 0.9), "aft": draws})
    assert aft.difference is not None
    # The 2.5 % and 97.5 % of -0.1 ... 0.1 are wider than Student's t on both sides.
    assert (aft.difference.low, aft.difference.high) == pytest.approx((-0.095, 0.095))
    assert aft.difference.bootstrapped
    assert aft.contrast is not None
    assert aft.contrast.reduction is not None
    assert aft.contrast.reduction.high == pytest.approx(0.95)


def test_one_seed_has_no_contrast(with_trials):
    _, aft = method_results(with_trials(stl=[0.9], aft=[0.91]))
    assert aft.contrast is None
    assert aft.adjusted_p is None
    assert aft.normalised_error == pytest.approx(0.9)


def test_p_values_of_several_methods_are_adjusted_together(with_trials):
    many = with_trials(stl=[0.8, 0.8, 0.8], aft=[0.9, 0.91, 0.92], kd=[0.81, 0.83, 0.85])
    _, aft, kd = method_results(many)
    assert aft.difference is not None
    assert kd.difference is not None
    assert aft.difference.p_value < kd.difference.p_value
    assert aft.adjusted_p == pytest.approx(2 * aft.difference.p_value)
    assert kd.adjusted_p == pytest.approx(kd.difference.p_value)


def test_normalised_error_needs_plain_fine_tuning_and_an_accuracy(comparison, with_trials):
    without = method_results(with_trials(kd=[0.8, 0.82], ft=[0.9, 0.92]))
    assert all(math.isnan(row.normalised_error) for row in without)
    _, aft = method_results(dataclasses.replace(comparison, metric="matthews"))
    assert math.isnan(aft.normalised_error)
    assert aft.contrast is not None
    assert aft.contrast.reduction is None


def test_the_baseline_comes_first_and_aft_is_the_headline(with_trials):
    many = with_trials(kd=[0.9], stl=[0.8], aft=[0.7])
    assert method_order(many) == ("stl", "kd", "aft")
    assert headline_method(many) == "aft"
    assert headline_method(with_trials(kd=[0.9], ft=[0.8])) == "ft"
    assert headline_method(with_trials(stl=[0.9])) is None


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
        method_results(dataclasses.replace(comparison, trials=()))


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
