"""LogME against the published implementation's values, and against its own definition."""

import pathlib

import numpy as np
import pytest

from aft_jax.scores import logme

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "official_float64.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def features_of(golden, name):
    first, _ = golden["inputs/teacher_dims"]
    teacher = golden["inputs/teacher"]
    named = {"teacher0": teacher[:, :first], "teacher1": teacher[:, first:]}
    return named[name] if name in named else golden[f"inputs/{name}"]


@pytest.mark.parametrize("name", ["teacher0", "teacher1", "wide", "student"])
def test_equals_the_published_values(name, golden):
    found = logme(features_of(golden, name), golden["inputs/labels"], 3)
    expected = golden[f"logme/{name}/weights"]
    np.testing.assert_allclose(found.weights, expected, rtol=0, atol=1e-10)
    if name != "student":  # its score is not among the values
        np.testing.assert_allclose(found.score, golden[f"logme/{name}/score"], rtol=0, atol=1e-10)


def test_the_evidence_is_that_of_the_gaussian_model(golden):
    """log N(y; 0, I / beta + F F^T / alpha), up to the 1e-5 that is added to squares."""
    features, labels = features_of(golden, "teacher0"), golden["inputs/labels"]
    found = logme(features, labels, 3)
    evidence = []
    for k in range(3):
        y = (labels == k).astype(float)
        covariance = np.eye(len(y)) / found.betas[k] + features @ features.T / found.alphas[k]
        _, volume = np.linalg.slogdet(2 * np.pi * covariance)
        evidence.append(-(volume + y @ np.linalg.solve(covariance, y)) / 2 / len(y))
    # alpha and beta stop within a thousandth of their fixed point, where the evidence is flat.
    np.testing.assert_allclose(found.score, np.mean(evidence), rtol=0, atol=1e-4)


def test_a_class_without_rows_is_left_out(golden):
    features, labels = features_of(golden, "teacher0"), golden["inputs/labels"]
    spread = np.array([0, 2, 4])[labels]
    found = logme(features, spread, 6)
    np.testing.assert_allclose(found.score, golden["logme/teacher0/score"], rtol=0, atol=1e-10)
    expected = golden["logme/teacher0/weights"]
    np.testing.assert_allclose(found.weights[[0, 2, 4]], expected, rtol=0, atol=1e-10)
    assert not found.weights[[1, 3, 5]].any()
    assert found.alphas[1] == found.betas[1] == 1


def test_a_repeated_column_changes_nothing(blobs):
    """Rank-deficient features: neither the noise of their null space nor their width comes in."""
    features, labels = blobs(rows=50, width=6)
    twice = np.concatenate([features, features], axis=1)
    plain, found = (logme(x, labels, 3) for x in (np.sqrt(2) * features, twice))
    expected = np.sqrt(2) * features @ plain.weights.T
    np.testing.assert_allclose(twice @ found.weights.T, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.score, plain.score, rtol=0, atol=1e-9)


def test_features_without_any_direction():
    """Nothing is explained: the posterior mean is zero, in narrow and in wide features."""
    for width in (2, 8):
        found = logme(np.zeros((5, width)), np.array([0, 1, 0, 1, 0]), 2)
        assert np.isfinite(found.score)
        np.testing.assert_array_equal(found.weights, np.zeros((2, width)))
