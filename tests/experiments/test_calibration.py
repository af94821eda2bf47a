import math

import numpy as np
import pytest

from aft_jax.experiments.reporting.calibration import confusion_matrix, most_confused, reliability

CONFIDENCE = np.array([0.95, 0.85, 0.65, 0.55])
CORRECT = np.array([1.0, 0.0, 1.0, 1.0])


def test_the_calibration_error_of_four_predictions():
    # One prediction a bin: (0.05 + 0.85 + 0.35 + 0.45) / 4.
    bins = reliability(CONFIDENCE, CORRECT, bins=10)
    assert bins.error == pytest.approx(0.425)
    # Mean confidence 0.75, of four predictions three are right.
    assert bins.overconfidence == pytest.approx(0.0)
    np.testing.assert_array_equal(bins.counts, [0, 0, 0, 0, 0, 1, 1, 0, 1, 1])


def test_errors_cancel_within_a_bin_only():
    # Both bins of (0.5, 1]: all four together have confidence 0.75 and accuracy 0.75.
    assert reliability(CONFIDENCE, CORRECT, bins=2).error == pytest.approx(0.0)
    # Bins up to 0.75 and above: |1 - 0.6| and |0.5 - 0.9|, each half of the predictions.
    four = reliability(CONFIDENCE, CORRECT, bins=4)
    assert four.error == pytest.approx(0.4)
    np.testing.assert_allclose(four.confidence[2:], [0.6, 0.9])
    np.testing.assert_allclose(four.accuracy[2:], [1.0, 0.5])
    assert np.isnan(four.confidence[:2]).all()


def test_a_bin_has_its_upper_edge():
    bins = reliability(np.array([0.0, 0.5, 1.0, 1.0]), np.ones(4), bins=2)
    np.testing.assert_array_equal(bins.counts, [2, 2])


def test_overconfidence_is_confidence_less_accuracy():
    bins = reliability(np.array([0.9, 0.7]), np.array([0.0, 1.0]))
    assert bins.overconfidence == pytest.approx(0.8 - 0.5)


def test_without_predictions_nothing_is_known():
    bins = reliability(np.zeros(0), np.zeros(0))
    assert math.isnan(bins.error)
    assert math.isnan(bins.overconfidence)


def test_confusions_are_counted_by_label():
    labels, predicted = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 0, 0, 2])
    matrix = confusion_matrix(labels, predicted, 3)
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [2, 1, 0], [0, 0, 1]])
    first, second = most_confused(matrix, at_most=5)
    assert (first.label, first.predicted, first.examples) == (1, 0, 2)
    assert first.share == pytest.approx(2 / 3)
    assert (second.label, second.predicted, second.examples) == (0, 1, 1)
    assert most_confused(matrix, at_most=1) == [first]
    assert most_confused(np.eye(3, dtype=int), at_most=5) == []
