"""Sets of teachers as one array."""

import numpy as np
import pytest

from aft_jax.scores import combined


def test_each_teacher_has_the_same_variance(blobs):
    one, _ = blobs(width=3)
    two, _ = blobs(width=5, seed=1)
    found = combined([one, 1000 * two + 7])
    assert found.shape == (60, 8)
    for features, part in ((one, found[:, :3]), (two, found[:, 3:])):
        centred = features - features.mean(axis=0)
        expected = centred / np.sqrt(np.sum(np.var(features, axis=0)))
        np.testing.assert_allclose(part, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", [60, 6])
def test_a_wide_set_keeps_the_principal_components(rows, blobs):
    one, _ = blobs(rows=rows, width=10)
    two, _ = blobs(rows=rows, width=3, seed=1)
    found = combined([one, two], max_width=8)
    assert found.shape == (rows, 4 + 3)
    centred = one - one.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    kernel = (u[:, :4] * s[:4]) @ (u[:, :4] * s[:4]).T / np.sum(s[:4] ** 2) * rows
    np.testing.assert_allclose(found[:, :4] @ found[:, :4].T, kernel, rtol=0, atol=1e-4)


def test_constant_features_become_zero(blobs):
    one, _ = blobs(width=3)
    found = combined([one, np.full((60, 2), 0.1)])
    assert not found[:, 3:].any()


def test_what_cannot_be_combined(blobs):
    one, _ = blobs()
    with pytest.raises(ValueError, match=r"the same rows; got rows \[60, 59\]"):
        combined([one, one[1:]])
    with pytest.raises(ValueError, match=r"at least one teacher, .* got rows \[\]"):
        combined([])
    with pytest.raises(ValueError, match="max_width is at least 2; got 1"):
        combined([one, one], max_width=1)
