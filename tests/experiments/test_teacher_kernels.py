import numpy as np
import pytest

from aft_jax.experiments.reporting.teacher_kernels import (
    combined_kernel,
    kernel_shares,
    kernels_without,
    scaled_features,
)
from tests import reference


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    widths = {"a": 3, "b": 5, "c": 2}
    return {n: rng.normal(size=(7, w)).astype(np.float32) for n, w in widths.items()}


def side_by_side(features):
    return np.concatenate([features[name] for name in sorted(features)], axis=1)


def test_shares_of_two_copies_are_as_their_squares():
    # Rows of [X, 2 X]: a fifth of every squared length is the first's.
    x = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    shares = kernel_shares({"small": x, "twice": 2 * x})
    assert shares == pytest.approx({"small": 0.2, "twice": 0.8}, abs=1e-6)


def test_shares_are_the_projections_of_the_parts(features):
    rows = reference.unit_rows(side_by_side(features).astype(np.float64))
    kernel = rows @ rows.T
    parts = np.split(rows, [3, 8], axis=1)
    expected = [np.sum((p @ p.T) * kernel) / np.sum(kernel**2) for p in parts]
    shares = kernel_shares(features)
    assert list(shares) == ["a", "b", "c"]
    assert list(shares.values()) == pytest.approx(expected, abs=1e-6)
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-6)


def test_a_teacher_that_says_nothing_has_no_share(features):
    silent = features | {"c": np.ones((7, 2), np.float32)}
    assert kernel_shares(silent)["c"] == pytest.approx(0.0, abs=1e-9)
    assert kernel_shares({"c": np.ones((7, 2), np.float32)}) == {}


@pytest.mark.parametrize(
    ("combine", "together"),
    [
        ("concat", side_by_side),
        ("product", lambda found: reference.tensor_product(*(found[n] for n in sorted(found)))),
    ],
)
def test_kernels_are_those_of_the_teachers_together(features, combine, together):
    expected = reference.cosine_kernel(together(features))
    np.testing.assert_allclose(combined_kernel(features, combine), expected, rtol=0, atol=1e-5)
    without = kernels_without(features, combine)
    assert list(without) == ["a", "b", "c"]
    for name, kernel in without.items():
        rest = {other: values for other, values in features.items() if other != name}
        expected = reference.cosine_kernel(together(rest))
        np.testing.assert_allclose(kernel, expected, rtol=0, atol=1e-5)


def test_a_single_teacher_cannot_be_left_out(features):
    assert kernels_without({"a": features["a"]}, "concat") == {}


def test_scales_are_applied_by_their_rank(features):
    logits, matrix = np.array([0.0, 1.0, -2.0]), np.arange(10.0).reshape(5, 2)
    scales = {"a": logits.astype(np.float32), "b": matrix.astype(np.float32)}
    found = scaled_features(features, scales)
    expected = features["a"] * reference.sigmoid(logits)
    np.testing.assert_allclose(found["a"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["b"], features["b"] @ matrix, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["c"], features["c"])


def test_one_map_of_all_teachers_makes_them_one():
    """[1, 2] and [3] side by side, through a map that adds all columns up: 6."""
    features = {"b": np.array([[3.0]]), "a": np.array([[1.0, 2.0]])}
    found = scaled_features(features, {"a+b": np.ones((3, 1), np.float32)})
    assert list(found) == ["a+b"]
    np.testing.assert_allclose(found["a+b"], [[6.0]])
