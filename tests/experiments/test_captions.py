import dataclasses

import numpy as np
import pytest

from aft_jax.experiments.reporting.calibration import reliability
from aft_jax.experiments.reporting.captions import predictions as captions_of_predictions
from aft_jax.experiments.reporting.captions import teachers as captions_of_teachers
from aft_jax.experiments.reporting.captions import training as captions
from aft_jax.experiments.reporting.curves import average
from aft_jax.experiments.reporting.diagnostics import Diagnostics
from aft_jax.experiments.statistics.results import method_results, tune_by_beta

MINUS = "\N{MINUS SIGN}"


def test_intervals_are_sorted_by_their_side_of_zero(with_trials):
    results = method_results(
        with_trials(
            stl=[0.8, 0.8],
            aft=[0.9, 0.901],
            kd=[0.7, 0.701],
            ft=[0.7, 0.95],
            rkd=[0.9, 0.901],
        )
    )
    assert captions.intervals(results) == (
        "Read the side of zero: aft and rkd lie right of it (better than stl), kd lies left of it "
        "(worse than stl), ft lies across it (no difference shown)."
    )


def test_seeds_ahead_are_counted_and_ties_are_not():
    scores = {"stl": {0: 0.5, 1: 0.5, 2: 0.5}, "aft": {0: 0.6, 1: 0.5, 2: 0.4}}
    assert captions.paired_seeds(scores).endswith("aft is ahead in 1 of 3 seeds.")


def test_learning_curves_end_where_the_runs_ended():
    tune = {"stl": average([{0: 0.5, 1200: 0.8}]), "aft": average([{0: 0.5, 1200: 0.9}])}
    regularizer = {"aft": average([{50: 0.4, 1200: 0.1}])}
    assert captions.learning_curves(tune, regularizer, "accuracy") == (
        "Single runs: at step 1,200 the tune accuracy ends with stl at 80.00 % and aft at 90.00 %, "
        "and the regularizer moves for aft from 0.400 to 0.100."
    )
    tune["aft"] = average([{0: 0.5, 1200: 0.9}] * 3)
    opening = "Mean over 1 to 3 seeds, bands of one standard deviation: at step 1,200"
    assert captions.learning_curves(tune, {}, "accuracy").startswith(opening)


def test_the_peak_of_the_search_is_compared_with_the_baseline(comparison):
    search = {"aft": tune_by_beta(comparison.beta_search, "aft")}
    assert captions.beta_curve(search, ("stl", 0.855)).endswith(
        f"aft peaks at beta 3 (84.50 %, {MINUS}1.00 points against stl)."
    )
    assert captions.beta_curve(search, None).endswith("aft peaks at beta 3 (84.50 %).")


def test_gates_are_described_by_their_span():
    gates = {"wide": np.array([0.25, 0.5, 0.625, 0.75]), "narrow": np.array([0.5])}
    assert captions_of_teachers.gates(gates).endswith(
        "4 gates of wide now span 0.25 to 0.75 with 50 % above 1/2 and "
        "1 gate of narrow now span 0.50 to 0.50 with 0 % above 1/2."
    )


def test_the_student_closest_to_the_teacher_is_named():
    # stl differs from the teacher by 1 in half of the entries: R = sqrt(1/2) = 0.707.
    kernels = {"teacher": np.ones((2, 2)), "stl": np.eye(2), "aft": np.ones((2, 2))}
    diagnostics = Diagnostics({}, kernels, np.array([0, 1]))
    assert captions_of_teachers.kernels(diagnostics) == (
        "Similarity of 2 tune examples sorted by class: closest to the teacher is aft "
        "(aft at R = 0.000 and stl at R = 0.707)."
    )


def test_the_choice_of_beta_is_explained(comparison):
    assert captions.choice(comparison, 1) == [
        "The search (6 runs) was scored on the tune split only.",
        "aft: beta 3 has the highest mean on tune among 1, 3, 10.",
        "Each of the 6 final runs scored the test split once, as its metrics show.",
    ]


@pytest.mark.parametrize(("beta", "end"), [(1.0, "smallest"), (10.0, "largest")])
def test_a_chosen_beta_at_the_edge_is_pointed_out(comparison, beta, end):
    search = [dataclasses.replace(t, tune=float(t.beta == beta)) for t in comparison.beta_search]
    edge = dataclasses.replace(
        comparison, beta_search=tuple(search), chosen_beta={"aft": beta}, trials=()
    )
    assert f"it is the {end} that was tried" in captions.choice(edge, None)[1]


def test_a_choice_other_than_the_best_on_tune_is_pointed_out(comparison):
    other = dataclasses.replace(comparison, chosen_beta={"aft": 10.0}, trials=())
    assert captions.choice(other, None)[1] == (
        "aft: beta 10 was chosen, though 3 has the highest mean on tune among 1, 3, 10."
    )


def test_repeated_use_of_the_test_split_is_pointed_out(comparison):
    assert captions.choice(comparison, 4)[-1].startswith("Caution: a final run scored the test spl")
    assert captions.choice(comparison, None)[-1] == (
        "The table holds one test score of each of the 6 final runs."
    )


def test_a_comparison_without_a_search_says_so(comparison):
    fixed = dataclasses.replace(comparison, beta_search=())
    assert captions.choice(fixed, 1)[0].startswith("No beta was searched")


def test_caveats_name_the_standard_error_of_the_test_split(comparison, with_trials):
    # sqrt(0.9 * 0.1 / 600) = 0.0122.
    sentences = captions.caveats(comparison, method_results(comparison))
    assert "by about 1.2 points (one standard error)" in sentences[1]
    assert len(sentences) == 2
    many = with_trials(stl=[0.9, 0.9], aft=[0.9, 0.9], kd=[0.9, 0.9])
    assert "Each interval stands for itself" in captions.caveats(many, method_results(many))[2]
    alone = with_trials(stl=[0.9], aft=[0.9])
    assert captions.caveats(alone, method_results(alone))[0].startswith("Without at least two")


def test_caveats_say_what_a_bootstrap_covers(comparison):
    draws = np.linspace(0.8, 1.0, 101)
    results = method_results(comparison, {"stl": draws, "aft": draws})
    text = "Intervals cover the scatter between seeds and the draw of the 600 test examples"
    assert captions.caveats(comparison, results)[1].startswith(text)


def test_the_untrained_student_is_told_apart():
    kernels = {"start": np.zeros((2, 2)), "teacher": np.ones((2, 2)), "aft": np.ones((2, 2))}
    diagnostics = Diagnostics({}, kernels, np.array([0, 1]))
    assert captions_of_teachers.kernels(diagnostics).endswith(
        "the student's distance to the teacher is aft at R = 0.000. Before training the student "
        "was at R = 1.000."
    )


def test_products_have_no_shares_to_speak_of():
    moves = {"image": 0.2, "text": 0.1}
    assert captions_of_teachers.teacher_parts({}, moves) == (
        "Left out one at a time, image changes the teachers' kernel most (R = 0.200) and text "
        "least (R = 0.100)."
    )


def test_over_and_underconfidence_are_told():
    bins = {
        "stl": reliability(np.array([0.9, 0.9]), np.array([0.0, 1.0])),
        "aft": reliability(np.array([0.9, 0.9]), np.array([1.0, 1.0])),
    }
    text = captions_of_predictions.reliability(bins, {name: b.error for name, b in bins.items()})
    assert text.endswith(
        "stl is overconfident on the whole and aft is underconfident on the whole; the smallest "
        "error has aft (10.0 points)."
    )


def test_the_commonest_confusion_is_told():
    matrices = {"aft": np.array([[3, 1], [0, 4]]), "kd": np.array([[4, 0], [0, 4]])}
    assert captions_of_predictions.confusion(matrices, ["cat", "dog"]).endswith(
        "aft is wrong in 1 of 8 predictions, most often by taking cat for dog (25.0 % of cat); kd "
        "is wrong in 0 of 8 predictions."
    )


def test_many_curves_are_counted_against_the_baseline():
    ends = {"stl": 0.8, "aft": 0.9, "kd": 0.7}
    curves = {name: average([{0: 0.5, 100: end}]) for name, end in ends.items()}
    assert captions.learning_panels(curves, "stl", "accuracy").endswith(
        "the highest tune accuracy at the end has aft with 90.00 %; 1 of 2 end above stl, the "
        "dashed grey line of every panel (80.00 %)."
    )
    del curves["stl"]
    assert captions.learning_panels(curves, "", "accuracy").endswith("has aft with 90.00 %.")
