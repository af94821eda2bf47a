"""Pooling by literal arithmetic, on tokens padded on either side and on maps."""

import pytest
import torch

from aft_jax.errors import ConfigError
from aft_jax.teachers.pooling import pool

STATES = torch.tensor([[[1.0, 10], [2, 20], [4, 40]], [[3, 30], [5, 50], [8, 80]]])
RIGHT_PADDED = torch.tensor([[1, 1, 0], [1, 1, 1]])
LEFT_PADDED = torch.tensor([[0, 1, 1], [1, 1, 1]])


@pytest.mark.parametrize(
    ("how", "mask", "expected"),
    [
        ("cls", None, [[1, 10], [3, 30]]),
        ("cls", RIGHT_PADDED, [[1, 10], [3, 30]]),
        ("cls", LEFT_PADDED, [[2, 20], [3, 30]]),
        ("last_token", None, [[4, 40], [8, 80]]),
        ("last_token", RIGHT_PADDED, [[2, 20], [8, 80]]),
        ("last_token", LEFT_PADDED, [[4, 40], [8, 80]]),
        ("mean", None, [[7 / 3, 70 / 3], [16 / 3, 160 / 3]]),
        ("mean", RIGHT_PADDED, [[1.5, 15], [16 / 3, 160 / 3]]),
        ("mean", LEFT_PADDED, [[3, 30], [16 / 3, 160 / 3]]),
    ],
)
def test_tokens(how, mask, expected):
    torch.testing.assert_close(pool(STATES, how, mask), torch.tensor(expected, dtype=torch.float32))


def test_the_mean_leaves_out_the_class_token():
    torch.testing.assert_close(pool(STATES, "mean", prefix=1), torch.tensor([[3.0, 30], [6.5, 65]]))


def test_maps_are_averaged_over_their_places():
    maps = torch.tensor([[[[1.0, 2], [3, 6]], [[10, 20], [30, 60]]]])
    torch.testing.assert_close(pool(maps, "mean"), torch.tensor([[3.0, 30]]))


@pytest.mark.parametrize("how", ["cls", "last_token"])
def test_maps_have_no_tokens(how):
    with pytest.raises(ConfigError, match=rf"has no tokens, is one of mean, pooler.*got '{how}'"):
        pool(torch.zeros(1, 2, 3, 3), how)


def test_half_precision_is_pooled_in_float32():
    # In bfloat16 the sum would stop growing at 256.
    states = torch.ones(1, 1000, 1, dtype=torch.bfloat16)
    pooled = pool(states, "mean", torch.ones(1, 1000, dtype=torch.int64))
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, torch.ones(1, 1))
