"""The linear probe against scikit-learn's logistic regression, and its choice of penalty."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from aft_jax.scores import choose_probe, cross_validate, fit_probe
from aft_jax.scores.cross_validation import stratified_folds
from aft_jax.scores.probe import L2_GRID


def standardised(features):
    return (features - features.mean(axis=0)) / features.std(axis=0)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("rows", "width"), [(80, 10), (24, 40)])
@pytest.mark.parametrize("l2", [1.0, 1e-2])
def test_equals_logistic_regression(classes, rows, width, l2, blobs):
    features, labels = blobs(rows=rows, width=width, classes=classes, apart=0.3)
    probe = fit_probe(features, labels, classes, l2)
    # scikit-learn's two classes have one weight vector, the difference of ours: |w|^2 = 2 |W|^2.
    strength = l2 / 2 if classes == 2 else l2
    reference = LogisticRegression(C=1 / (strength * rows), tol=1e-10, max_iter=10_000)
    expected = reference.fit(standardised(features), labels).predict_proba(standardised(features))
    logits = probe.logits(features)
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    found /= found.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3)
    assert (probe.weights.shape, probe.l2) == ((width, classes), l2)


def test_logits_of_either_library(blobs):
    features, labels = blobs()
    probe = fit_probe(features, labels, 3, 0.1)
    z = (features - probe.mean) / probe.scale
    expected = z @ probe.weights.astype(np.float64) + probe.bias
    np.testing.assert_allclose(probe.logits(features), expected, rtol=1e-4, atol=1e-4)
    ours = probe.logits(jnp.asarray(features, jnp.bfloat16))
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, expected, rtol=0, atol=0.2)


def test_a_constant_feature_has_scale_one_and_no_weight(blobs):
    features, labels = blobs()
    features[:, 2] = 0.1  # no float: its mean over 60 rows is not it
    probe = fit_probe(features, labels, 3, 0.1)
    assert probe.scale[2] == 1
    np.testing.assert_allclose(probe.weights[2], 0, atol=1e-12)
    np.testing.assert_allclose(probe.scale[3], features[:, 3].std(), rtol=1e-6)


def test_a_feature_that_hardly_moves_is_a_constant(blobs):
    features, labels = blobs()
    features[:, 2] = 0
    features[0, 2] = 1e-40  # its deviation is no normal number
    probe = fit_probe(features, labels, 3, 0.1)
    assert probe.scale[2] == 1
    assert np.isfinite(probe.logits(jnp.asarray(features, jnp.float32))).all()


def test_a_tune_split_that_cannot_choose_is_named(blobs):
    features, labels = blobs()
    with pytest.raises(ValueError, match=r"the tune split, which chooses the penalty: .* two"):
        choose_probe(features, labels, features[:5], np.zeros(5, int), 3)


def test_the_penalty_is_chosen_on_tune(blobs):
    """On noise the strongest is best; where train and tune are one set of rows, the weakest."""
    features, labels = blobs(rows=400, apart=0.0)
    noise = choose_probe(features[:200], labels[:200], features[200:], labels[200:], 3)
    assert noise.l2 == L2_GRID[0]
    features, labels = blobs(apart=0.4)
    fitted = choose_probe(features, labels, features, labels, 3)
    assert fitted.l2 == L2_GRID[-1]
    np.testing.assert_allclose(fitted.mean, features.mean(axis=0), rtol=1e-6)


def test_tune_never_fits(blobs):
    """Tune rows of other means leave mean and scale as train has them."""
    features, labels = blobs()
    probe = choose_probe(features, labels, features + 50, labels, 3)
    np.testing.assert_allclose(probe.mean, features.mean(axis=0), rtol=1e-6)


def test_what_the_probe_refuses(blobs):
    features, labels = blobs()
    for l2 in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="l2 is a finite number above 0; got"):
            fit_probe(features, labels, 3, l2)
    with pytest.raises(ValueError, match="equally wide; got 8 and 7"):
        choose_probe(features, labels, features[:, 1:], labels, 3)


def test_folds_are_equal_shares_of_every_class():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 23, 7]))
    fold_of = stratified_folds(labels, 5)
    for k, rows in enumerate((50, 23, 7)):
        counts = np.bincount(fold_of[labels == k], minlength=5)
        assert counts.sum() == rows
        assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(fold_of, stratified_folds(labels, 5))


def test_cross_validation_of_noise_is_chance():
    """More features than rows, labels by chance: a fit to the same rows would have them all."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(200, 300)), np.arange(200) % 2
    found = cross_validate(features, labels, 2)
    assert abs(found.accuracy - 0.5) < 0.15
    assert found.log_loss == pytest.approx(np.log(2), abs=0.1)


def test_cross_validation_of_parted_classes(blobs):
    features, labels = blobs(apart=30.0)
    found = cross_validate(features, 2 * labels, 5)
    np.testing.assert_array_equal(found.predictions, 2 * labels)
    assert found.accuracy == 1
    # (60 + 1) / (60 + 2) right: sqrt(61 / 62 * 1 / 62 / 60)
    assert found.error == pytest.approx(np.sqrt(61 / 62**2 / 60))
    assert len(found.penalties) == 5


def test_a_row_of_its_own_class_is_never_right(blobs):
    features, labels = blobs(rows=30)
    labels[0] = 3
    found = cross_validate(features, labels, 4)
    assert found.predictions[0] != 3


def test_more_folds_than_rows(blobs):
    features, labels = blobs(rows=4)
    with pytest.raises(ValueError, match="got 5 folds of 4 rows"):
        cross_validate(features, labels, 3)
    with pytest.raises(ValueError, match=r"folds are at least 3 .* got 2 folds"):
        cross_validate(features, labels, 3, folds=2)
