"""The depths of stages, and the pool after the stem beside torch's."""

import jax
import numpy as np
import pytest
import torch

from aft_jax.students.layers.stages import check_depths, max_pool


def test_depths_are_kept():
    assert check_depths([3, 4, 6, 3]) == (3, 4, 6, 3)


@pytest.mark.parametrize("depths", [3, [], [2, 0], [2, True], "22"])
def test_other_depths_are_refused(depths):
    with pytest.raises(ValueError, match="list of positive integers, the blocks of each stage"):
        check_depths(depths)


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (1, 2)])
def test_the_pool_and_its_gradient_are_torchs(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    theirs = torch.tensor(x, requires_grad=True)
    padded = torch.nn.functional.pad(theirs.permute(0, 3, 1, 2), (1, 1, 1, 1))
    wanted = torch.nn.functional.max_pool2d(padded, 3, 2).permute(0, 2, 3, 1)
    ours, pull = jax.vjp(max_pool, x)
    np.testing.assert_array_equal(ours, wanted.detach())
    cotangent = np.random.default_rng(1).normal(size=wanted.shape).astype(np.float32)
    wanted.backward(torch.tensor(cotangent))
    assert theirs.grad is not None
    np.testing.assert_allclose(pull(cotangent)[0], theirs.grad, rtol=1e-6)
