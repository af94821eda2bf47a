"""H-score, alignment, TMI, PED and OSBORN, each against its equation written plainly."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from aft_jax.scores import alignment, h_score, osborn, ped, tmi
from aft_jax.scores.ped import repelled


def between(features, labels):
    means = np.stack([features[labels == y].mean(axis=0) for y in labels])
    return np.cov(means.T, bias=True)


@pytest.mark.parametrize(("rows", "width"), [(60, 8), (12, 20)])
def test_h_score(rows, width, blobs):
    features, labels = blobs(rows=rows, width=width, apart=0.5)
    shrunk, alpha = ledoit_wolf(features)
    expected = (1 - alpha) * np.trace(np.linalg.solve(shrunk, between(features, labels)))
    assert h_score(features, labels, 3) == pytest.approx(expected, rel=1e-6)
    covariance = np.linalg.pinv(np.cov(features.T, bias=True))
    expected = np.trace(covariance @ between(features, labels))
    assert h_score(features, labels, 3, shrink=False) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("rows", "width"), [(60, 8), (12, 20)])
def test_alignment(rows, width, blobs):
    features, labels = blobs(rows=rows, width=width)
    centring = np.eye(rows) - 1 / rows
    kernel = centring @ features @ features.T @ centring
    target = centring @ np.equal.outer(labels, labels) @ centring
    expected = np.sum(kernel * target) / np.linalg.norm(kernel) / np.linalg.norm(target)
    assert alignment(features, labels, 3) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("rows", "width"), [(60, 8), (31, 20), (12, 20)])
def test_tmi(rows, width, blobs):
    features, labels = blobs(rows=rows, width=width)
    scaled = features / np.sqrt(np.mean(np.var(features, axis=0)))
    expected = 0.0
    for k in range(3):
        shrunk, _ = ledoit_wolf(scaled[labels == k])
        volume = np.linalg.slogdet(2 * np.pi * np.e * (shrunk + 1e-6 * np.eye(width)))[1]
        expected += np.mean(labels == k) * volume / 2 / width
    assert tmi(features, labels, 3) == pytest.approx(expected, rel=1e-8)


def test_tmi_of_collapsed_classes_is_its_floor():
    """Classes that are points: log(2 pi e 1e-6) / 2 a feature; one of a single row says nothing."""
    features = np.array([[0.0], [0.0], [1.0], [1.0], [5.0]])
    found = tmi(features, np.array([0, 0, 1, 1, 2]), 3)
    assert found == pytest.approx(np.log(2 * np.pi * np.e * 1e-6) / 2)
    assert np.isnan(tmi(features[[0, 2]], np.array([0, 1]), 2))


def test_balls_that_overlap_push_each_other_apart():
    """Radii 1 and 1, centres 1 apart, equal masses: each moves 0.05 * 0.5 * overlap a step."""
    centres, gap = np.array([[0.0, 0.0], [1.0, 0.0]]), 1.0
    for _ in range(10):
        gap += 2 * 0.05 * 0.5 * (2 - gap)
    moved = repelled(centres, np.ones(2), np.array([0.5, 0.5]))
    np.testing.assert_allclose(moved, [[(1 - gap) / 2, 0], [(1 + gap) / 2, 0]], atol=1e-12)
    apart = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(repelled(apart, np.ones(3), np.full(3, 1 / 3))[1], apart[1])


def test_ped(blobs):
    """The equation, with differences and determinants written out."""
    features, labels = (part[:50] for part in blobs(rows=60, apart=0.7))
    labels = np.where(np.arange(50) > 40, 2, labels)  # classes of three sizes
    masses = np.bincount(labels) / 50
    means = np.stack([features[labels == k].mean(axis=0) for k in range(3)])
    shrunk, _ = ledoit_wolf(features - means[labels], assume_centered=True)
    shrunk += 1e-6 * np.mean(np.var(features, axis=0)) * np.eye(8)
    whiten = np.linalg.inv(np.linalg.cholesky(shrunk))
    offsets = (means - features.mean(axis=0)) @ whiten.T
    axes = np.linalg.svd(offsets)[2][:2]
    rows, centres = (features - features.mean(axis=0)) @ whiten.T @ axes.T, offsets @ axes.T
    radii = [np.sqrt(np.mean((rows[labels == k] - centres[k]) ** 2)) for k in range(3)]
    moved = centres.copy()
    for _ in range(10):
        before = moved.copy()
        for i in range(3):
            for j in set(range(3)) - {i}:
                line = before[i] - before[j]
                distance = np.linalg.norm(line)
                overlap = max(0.0, radii[i] + radii[j] - distance)
                moved[i] += 0.05 * masses[j] * overlap * line / distance
    rows += (moved - centres)[labels]
    density = masses * np.exp(-((rows[:, None] - moved[None]) ** 2).sum(axis=2) / 2)
    right = density[np.arange(50), labels] / density.sum(axis=1)
    assert ped(features, labels, 3) == pytest.approx(np.mean(np.log(right)), rel=1e-7)


def test_osborn():
    """Two of four rows: y has entropy log 2, and given "a" half of it is left on average."""
    labels = np.array([0, 0, 1, 1])
    right, constant, crossed = np.array([5, 5, 7, 7]), np.zeros(4, int), np.array([0, 1, 0, 1])
    assert osborn([right, right], labels) == pytest.approx((2.0, 1.0, 1.0))
    assert osborn([right, crossed], labels) == pytest.approx((0.5, 0.5, 0.0))
    # A constant has no entropy that another could remove; of the others it removes nothing.
    assert osborn([right, constant], labels) == pytest.approx((1.0, 0.5, 0.5))


def test_osborn_of_a_table():
    """12 rows with H(y|p) = h(1/3): the share is 1 - h(1/3) / log 2."""
    labels = np.repeat([0, 1], 6)
    one = np.array([0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1])
    entropy = -(np.log(1 / 3) / 3 + np.log(2 / 3) * 2 / 3)
    found = osborn([one, one], labels)
    assert found.relevance == pytest.approx(1 - entropy / np.log(2))
    assert found.cohesion == pytest.approx(1.0)


def test_osborn_refuses():
    labels = np.array([0, 1])
    with pytest.raises(ValueError, match="at least two teachers; got 1"):
        osborn([labels], labels)
    with pytest.raises(ValueError, match=r"the same rows; got \[2, 3\] of them"):
        osborn([labels, np.zeros(3, int)], labels)
