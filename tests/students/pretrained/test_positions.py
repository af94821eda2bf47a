"""Positions at another image size equal torch's two ways of resizing."""

import numpy as np
import pytest
import torch

from aft_jax.students.pretrained.positions import resized_positions


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("old", "new"), [(7, 7), (4, 6), (6, 4), (16, 5), (3, 16), (2, 3), (1, 4)])
@pytest.mark.parametrize("extra", [0, 1])
def test_the_grid_is_resized_as_by_torch(old, new, antialias, extra):
    table = np.random.default_rng(0).normal(size=(extra + old**2, 5)).astype(np.float32)
    ours = resized_positions(table, extra + new**2, antialias)
    grid = torch.tensor(table[extra:].T.reshape(1, 5, old, old))
    theirs = torch.nn.functional.interpolate(
        grid, size=(new, new), mode="bicubic", antialias=antialias, align_corners=False
    )
    np.testing.assert_array_equal(ours[:extra], table[:extra])
    np.testing.assert_allclose(
        ours[extra:], theirs[0].numpy().reshape(5, -1).T, rtol=1e-4, atol=2e-6
    )


@pytest.mark.parametrize("antialias", [False, True])
def test_constant_positions_stay_constant(antialias):
    table = np.full((16, 2), 3.0, np.float32)
    np.testing.assert_allclose(resized_positions(table, 81, antialias), 3.0, rtol=1e-6)


@pytest.mark.parametrize(("old", "new"), [(12, 16), (16, 12), (17, 16), (16, 17)])
def test_what_is_no_square_is_refused(old, new):
    with pytest.raises(ValueError, match=rf"square of patches; got {old} and {new}"):
        resized_positions(np.zeros((old, 2), np.float32), new, antialias=False)
