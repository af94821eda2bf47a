import dataclasses
import re

import numpy as np
import pytest

from aft_jax.errors import UsageError
from aft_jax.experiments.statistics.verdicts import SEEDS_ONLY, _bound, rival_verdict, verdict

MINUS = "\N{MINUS SIGN}"


def constant(**accuracies):
    """Replicates that do not scatter: Student's t alone decides."""
    return {method: np.full(1_000, value) for method, value in accuracies.items()}


def test_an_interval_with_zero_names_no_winner(comparison):
    # Errors fall from 10 % to 8 %: one fifth.
    sentence = verdict(comparison, replicates=constant(stl=0.9, aft=0.92))
    assert sentence == (
        "No difference shown between aft and stl on 3 seeds: +2.00 points of test accuracy (95 % "
        f"interval {MINUS}0.48 to +4.48, which contains zero), 20.0 % fewer errors, which may be "
        "chance."
    )


def test_a_win(with_trials):
    # Differences 2.0, 2.1, 2.2 points: mean 2.1, half width 0.1 * 2.484138 = 0.25; errors fall from
    # 10 % to 7.9 %, and over the constant 10 % the half width is 2.5 %.
    won = with_trials(stl=[0.9, 0.9, 0.9], aft=[0.92, 0.921, 0.922])
    assert verdict(won, replicates=constant(stl=0.9, aft=0.921)) == (
        "aft lowers error by 21.0 % [18.5, 23.5] against stl on 3 seeds: +2.10 points of test "
        "accuracy (95 % interval +1.85 to +2.35)."
    )


def test_a_loss(with_trials):
    lost = with_trials(stl=[0.9, 0.9, 0.9], aft=[0.88, 0.879, 0.878])
    assert verdict(lost, replicates=constant(stl=0.9, aft=0.879)) == (
        f"aft raises error by 21.0 % [18.5, 23.5] against stl on 3 seeds: {MINUS}2.10 points of "
        f"test accuracy (95 % interval {MINUS}2.35 to {MINUS}1.85)."
    )


def test_a_win_over_seeds_that_other_examples_would_undo(with_trials):
    won = with_trials(stl=[0.9, 0.9, 0.9], aft=[0.92, 0.921, 0.922])
    scattered = {"stl": np.full(1001, 0.9), "aft": np.linspace(0.89, 0.95, 1001)}
    assert verdict(won, replicates=scattered).startswith("No difference shown between aft and stl")


def test_equal_runs(with_trials):
    equal = with_trials(stl=[0.9, 0.8], aft=[0.9, 0.8])
    assert verdict(equal, replicates=constant(stl=0.85, aft=0.85)) == (
        "No difference shown between aft and stl on 2 seeds: 0.00 points of test accuracy (95 % "
        "interval 0.00 to 0.00, which contains zero), equally many errors."
    )


def test_without_predictions_it_says_what_the_interval_leaves_out(with_trials):
    won = with_trials(stl=[0.9, 0.9, 0.9], aft=[0.92, 0.921, 0.922])
    sentence = verdict(won)
    assert sentence.startswith("aft lowers error by 21.0 % [18.5, 23.5]")
    assert sentence.endswith(SEEDS_ONLY)


def test_another_metric_has_winners_but_no_errors(with_trials, comparison):
    won = with_trials(stl=[0.9, 0.9, 0.9], aft=[0.92, 0.921, 0.922])
    sentence = verdict(dataclasses.replace(won, metric="matthews"))
    assert sentence.startswith("aft wins against stl on 3 seeds: +2.10 points of test matthews (")
    assert "error" not in verdict(dataclasses.replace(comparison, metric="matthews"))


def test_a_baseline_without_errors_has_none_to_reduce(with_trials):
    perfect = with_trials(stl=[1.0, 1.0], aft=[1.0, 1.0])
    sentence = verdict(perfect, replicates=constant(stl=1.0, aft=1.0))
    assert "errors" not in sentence


def test_one_seed_names_no_winner_and_says_why(with_trials):
    assert verdict(with_trials(stl=[0.9], aft=[0.95])) == (
        "No verdict on aft against stl: an interval needs at least 2 paired seeds, this comparison "
        "has 1. Its +5.00 points of test accuracy may be the luck of that seed. Add seeds in "
        "config.compare.seeds, better five than two."
    )


def test_seeds_that_differ_alike_name_no_winner(with_trials):
    alike = with_trials(stl=[0.9, 0.92], aft=[0.91, 0.93])
    assert verdict(alike).startswith(
        "No verdict on aft against stl: all 2 seeds differ by the same +1.00 points"
    )


def test_a_loss_against_a_baseline_without_errors(with_trials):
    lost = with_trials(stl=[1.0, 1.0, 1.0], aft=[0.98, 0.979, 0.978])
    assert verdict(lost).startswith("aft loses against stl on 3 seeds: ")


def test_a_bound_that_is_not_zero_is_not_shown_as_zero():
    assert (_bound(0.0004), _bound(0.101), _bound(0.0)) == ("0.04", "10.1", "0.0")


def test_one_method_alone(with_trials):
    assert verdict(with_trials(aft=[0.9, 0.91])).startswith("No verdict: only aft was run")


def test_it_is_about_aft_if_there_and_any_method_on_request(with_trials):
    many = with_trials(kd=[0.9, 0.921], stl=[0.8, 0.82], aft=[0.7, 0.721])
    assert verdict(many).startswith("aft raises error by")
    assert verdict(many, "kd").startswith("kd lowers error by")
    with pytest.raises(UsageError, match="got 'ft', valid: kd, aft"):
        verdict(many, "ft")


def test_without_stl_the_first_method_is_the_baseline(with_trials):
    two = with_trials(kd=[0.8, 0.82], ft=[0.9, 0.921])
    assert "against kd on 2 seeds" in verdict(two)
    assert rival_verdict(two) == ""


def test_an_empty_comparison_is_refused(comparison):
    with pytest.raises(UsageError, match="trials is empty"):
        verdict(dataclasses.replace(comparison, trials=()))


def test_the_headline_against_the_best_of_the_rest(with_trials):
    many = with_trials(
        stl=[0.8, 0.8, 0.8],
        aft=[0.9, 0.901, 0.902],
        kd=[0.87, 0.87, 0.87],
        ft=[0.88, 0.88, 0.88],
    )
    replicates = constant(stl=0.8, aft=0.901, kd=0.87, ft=0.88)
    # Errors fall from 12 % to 9.9 %.
    assert rival_verdict(many, replicates) == (
        "aft lowers error by 17.5 % [15.4, 19.6] against ft on 3 seeds: +2.10 points of test "
        "accuracy (95 % interval +1.85 to +2.35). (ft has the highest test accuracy of 2 other "
        "methods, a choice by the test split that flatters it.)"
    )
    assert "flatters" not in rival_verdict(
        with_trials(stl=[0.8, 0.8], aft=[0.9, 0.9], kd=[0.8, 1.0])
    )


@pytest.mark.parametrize(
    ("scatter", "said"),
    [
        # t = 5 at two degrees of freedom: p = 1 - 5 / sqrt(27) = 0.0377, doubled 0.0755.
        (0.02 * 3**0.5 / 5, r"corrected for that choice \(p = 0\.075\) its lead is not shown\.\)"),
        # t = 20: p = 1 - 20 / sqrt(402) = 0.0025, doubled 0.005.
        (0.02 * 3**0.5 / 20, r"corrected for that choice \(p = 0\.005\) its lead is still shown"),
    ],
)
def test_a_lead_of_the_picked_rival_is_corrected_for_the_pick(with_trials, scatter, said):
    """kd leads by two points, its three differences spread by `scatter`."""
    kd = [0.92 - scatter, 0.92, 0.92 + scatter]
    many = with_trials(stl=[0.8] * 3, aft=[0.9] * 3, kd=kd, ft=[0.7] * 3)
    assert re.search(said, rival_verdict(many))
    assert "corrected" not in rival_verdict(with_trials(stl=[0.8] * 3, aft=[0.9] * 3, kd=kd))


def test_what_runs_at_the_teachers_cost_is_no_rival(with_trials):
    scores = {"stl": [0.8, 0.8], "aft": [0.9, 0.9], "fconcat": [0.95, 0.95]}
    assert rival_verdict(with_trials(**scores)) == ""
    assert "against kd" in rival_verdict(with_trials(**scores, kd=[0.81, 0.81]))


def test_two_methods_have_no_rival(comparison):
    assert rival_verdict(comparison) == ""
