import collections
import itertools
import pathlib

import numpy as np
import pytest

from aft_jax.errors import UsageError
from aft_jax.experiments.statistics import bootstrap
from aft_jax.experiments.statistics.bootstrap import bootstrap_of, replicate
from aft_jax.training.predictions import Predictions, save_predictions


def test_draws_have_the_distribution_of_all_draws():
    """Two seeds and two examples: the sixteen draws, listed, against ten thousand."""
    correct = np.array([[1.0, 0.0], [1.0, 1.0]])
    pairs = list(itertools.product(range(2), repeat=2))
    means = [correct[np.ix_(seeds, rows)].mean() for seeds in pairs for rows in pairs]
    expected = collections.Counter(means)
    found = collections.Counter(replicate({"m": correct})["m"].tolist())
    assert set(found) == set(expected)
    for value, count in expected.items():
        chance = count / 16
        four_sigma = 4 * (chance * (1 - chance) * 10_000) ** 0.5
        assert abs(found[value] - 10_000 * chance) < four_sigma


def test_methods_are_paired_in_seeds_and_in_examples():
    rng = np.random.default_rng(0)
    correct = (rng.random((3, 40)) < 0.6).astype(float)
    found = replicate({"a": correct, "same": correct, "opposite": 1 - correct}, replicates=200)
    np.testing.assert_array_equal(found["a"], found["same"])
    np.testing.assert_allclose(found["a"] + found["opposite"], 1, atol=1e-12)


def test_draws_of_seeds_and_of_examples_both_scatter():
    by_seed = np.array([[1.0] * 30, [0.0] * 30])  # mean of two fair coins
    by_example = np.array([[1.0] * 15 + [0.0] * 15] * 2)  # mean of thirty
    found = replicate({"seed": by_seed, "example": by_example})
    assert np.var(found["seed"]) == pytest.approx(0.25 / 2, rel=0.05)
    assert np.var(found["example"]) == pytest.approx(0.25 / 30, rel=0.05)


def test_memory_changes_no_number(monkeypatch):
    correct = (np.random.default_rng(0).random((3, 50)) < 0.6).astype(float)
    whole = replicate({"m": correct}, replicates=100)["m"]
    monkeypatch.setattr(bootstrap, "CHUNK", 350)
    np.testing.assert_array_equal(replicate({"m": correct}, replicates=100)["m"], whole)


def test_the_same_seed_gives_the_same_draws():
    correct = {"m": np.array([[1.0, 0.0, 0.0]])}
    first, again = replicate(correct, 50), replicate(correct, 50)
    np.testing.assert_array_equal(first["m"], again["m"])
    assert not np.array_equal(first["m"], replicate(correct, 50, seed=1)["m"])


def predictions_of(accuracy: float, rows: int = 100, **changes) -> Predictions:
    """Of `rows` examples the first are right."""
    labels = np.zeros(rows, np.int32)
    return Predictions(
        ids=np.array([f"id{row}" for row in range(rows)]),
        labels=labels,
        predicted=(np.arange(rows) >= round(accuracy * rows)).astype(np.int32),
        confidence=np.full(rows, 0.5, np.float32),
        label_log_probability=np.full(rows, -0.7, np.float32),
    )._replace(**changes)


@pytest.fixture
def predicted(comparison, tmp_path) -> pathlib.Path:
    """The directory of the comparison, with predictions of as many right answers as it says."""
    for trial in comparison.trials:
        (tmp_path / trial.directory).mkdir(parents=True)
        save_predictions(predictions_of(trial.test), tmp_path / trial.directory, "test")
    return tmp_path


def test_replicates_of_a_comparison_average_to_its_means(comparison, predicted):
    found = bootstrap_of(comparison, predicted)
    assert found is not None
    assert {name: len(values) for name, values in found.items()} == {"stl": 10_000, "aft": 10_000}
    # Means 0.90 and 0.92; the standard error of 10,000 replicates' mean is below 0.0005.
    assert np.mean(found["stl"]) == pytest.approx(0.90, abs=0.002)
    assert np.mean(found["aft"]) == pytest.approx(0.92, abs=0.002)


def test_rows_follow_the_seeds_not_the_order_of_the_trials(with_trials, predicted, tmp_path):
    straight = with_trials(stl=[0.9, 0.9, 0.9], aft=[0.91, 0.92, 0.93])
    mixed = straight.__class__(
        **{**straight.__dict__, "trials": (*straight.trials[3:][::-1], *straight.trials[:3])}
    )
    first, second = bootstrap_of(straight, predicted), bootstrap_of(mixed, predicted)
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first["aft"], second["aft"])


def test_unlabelled_examples_do_not_count(comparison, predicted):
    for trial in comparison.trials:
        rows = predictions_of(trial.test, rows=100)
        extra = predictions_of(0.0, rows=20, labels=np.full(20, -1, np.int32))
        joined = Predictions(*(np.concatenate(pair) for pair in zip(rows, extra, strict=True)))
        save_predictions(joined, predicted / trial.directory, "test")
    found = bootstrap_of(comparison, predicted)
    assert found is not None
    assert np.mean(found["aft"]) == pytest.approx(0.92, abs=0.002)


def test_without_all_predictions_or_without_scatter_there_are_none(
    comparison, with_trials, predicted
):
    assert bootstrap_of(with_trials(stl=[0.9], aft=[0.91]), predicted) is None
    assert bootstrap_of(with_trials(stl=[0.9, 0.9], aft=[0.91]), predicted) is None
    assert bootstrap_of(with_trials(), predicted) is None
    (predicted / comparison.trials[2].directory / "predictions-test.npz").unlink()
    assert bootstrap_of(comparison, predicted) is None


def test_predictions_of_another_run_are_refused(comparison, predicted):
    place = predicted / comparison.trials[1].directory
    save_predictions(predictions_of(0.8), place, "test")
    with pytest.raises(UsageError, match=r"accuracy is 0\.9000; they have 0\.8000\. `aft-jax eval"):
        bootstrap_of(comparison, predicted)


def test_predictions_of_other_examples_are_refused(comparison, predicted):
    other = predictions_of(0.9, ids=np.array([f"x{row}" for row in range(100)]))
    save_predictions(other, predicted / comparison.trials[1].directory, "test")
    with pytest.raises(UsageError, match=r"predict the same test examples; those of .*stl-seed1"):
        bootstrap_of(comparison, predicted)
