"""What every score refuses, and what it leaves out."""

import ml_dtypes
import numpy as np
import pytest

from aft_jax.scores import (
    alignment,
    cross_validate,
    fit_probe,
    h_score,
    logme,
    ped,
    score,
    tmi,
)
from aft_jax.scores.labelled import labelled

SCORES = {
    "logme": lambda *data: logme(*data).score,
    "h_score": h_score,
    "tmi": tmi,
    "ped": ped,
    "alignment": alignment,
    "probe": lambda *data: cross_validate(*data).accuracy,
}


@pytest.mark.parametrize("name", SCORES)
def test_rows_without_a_label_do_not_count(name, blobs):
    features, labels = blobs()
    more = np.concatenate([features, 100 * np.ones((5, 8))])
    unknown = np.concatenate([labels, np.full(5, -1)])
    assert SCORES[name](more, unknown, 3) == SCORES[name](features, labels, 3)


@pytest.mark.parametrize("name", ["logme", "h_score", "tmi", "ped", "alignment"])
@pytest.mark.parametrize("rows", [12, 60])
def test_a_rotation_changes_nothing(name, rows, blobs):
    features, labels = blobs(rows=rows, width=20)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(20, 20)))
    rotated = SCORES[name](features @ rotation, labels, 3)
    assert rotated == pytest.approx(SCORES[name](features, labels, 3), rel=1e-7)


@pytest.mark.parametrize("name", ["h_score", "tmi", "ped", "alignment"])
def test_a_change_of_scale_and_origin_changes_nothing(name, blobs):
    features, labels = blobs()
    moved = SCORES[name](7 * features - 5, labels, 3)
    assert moved == pytest.approx(SCORES[name](features, labels, 3), rel=1e-7)


# TMI is for variety inside a class, whatever lies between.
@pytest.mark.parametrize("name", sorted(set(SCORES) - {"tmi"}))
def test_better_parted_classes_score_more(name, blobs):
    weak, strong = (SCORES[name](*blobs(apart=apart), 3) for apart in (0.1, 1.5))
    assert strong > weak


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("rows", [11, 40])
def test_degenerate_features_have_a_score(name, rows, blobs):
    """Constant, repeated and empty columns, and a class without rows."""
    features, labels = blobs(rows=rows, width=4)
    hard = np.concatenate([features, features, np.ones((rows, 3)), np.zeros((rows, 8))], axis=1)
    assert np.isfinite(SCORES[name](hard, 2 * labels, 6))


CONSTANT = {
    "h_score": 0.0,
    "tmi": np.nan,
    "ped": -np.log(2),
    "alignment": 0.0,
    "probe": 0.5,
}


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_features(name):
    """Nothing to go by: no alignment, the entropy of the labels, half of two equal classes."""
    features, labels = np.full((20, 3), 1.7), np.arange(20) % 2
    found = SCORES[name](features, labels, 2)
    assert found == pytest.approx(CONSTANT[name], nan_ok=True)
    assert np.isfinite(logme(features, labels, 2).score)
    assert np.isfinite(logme(0 * features, labels, 2).score)


def test_half_precision_is_widened(blobs):
    features, labels = blobs()
    for dtype in (np.float16, ml_dtypes.bfloat16):
        half = features.astype(dtype)
        assert labelled(half, labels, 3).features.dtype == np.float32
        assert h_score(half, labels, 3) == h_score(half.astype(np.float32), labels, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_no_numbers(bad, blobs):
    features, labels = blobs()
    labels[3] = -1
    features[20, 2] = bad
    with pytest.raises(ValueError, match="features are finite; row 20 holds NaN or infinity"):
        score(features, labels, 3)


def test_shapes_and_types_that_do_not_fit(blobs):
    features, labels = blobs()
    with pytest.raises(ValueError, match=r"got features \(60, 8\) and labels \(59,\)"):
        h_score(features, labels[1:], 3)
    with pytest.raises(ValueError, match=r"at least one wide, .* got features \(60, 0\)"):
        h_score(features[:, :0], labels, 3)
    with pytest.raises(ValueError, match="labels integers; got float64 and float64"):
        h_score(features, labels.astype(float), 3)
    with pytest.raises(ValueError, match="labels integers; got int64 and int64"):
        h_score(features.astype(int), labels, 3)
    with pytest.raises(ValueError, match=r"class indices below num_classes=2, .* got 0 to 2"):
        h_score(features, labels, 2)
    with pytest.raises(ValueError, match="got -2 to 2"):
        h_score(features, np.where(labels == 1, -2, labels), 3)


@pytest.mark.parametrize("only", [0, -1])
def test_one_class_alone(only, blobs):
    features, labels = blobs()
    with pytest.raises(ValueError, match="at least two classes have rows; got"):
        fit_probe(features, np.full_like(labels, only), 3, 1.0)
