"""Who takes over from whom in a population."""

import numpy as np
import pytest

from aft_jax.training.experiment import build
from aft_jax.training.population import exchanged, population

BETAS = np.array([1.0, 3.0, 10.0, 30.0, 100.0])


def test_the_worst_takes_over_the_best_with_a_beta_beside_it():
    scores = np.array([0.5, 0.9, 0.7, 0.2, 0.6])
    seen = set()
    for step in range(20):
        after = exchanged(scores, BETAS, 2.0, (0, step))
        assert after.sources.tolist() == [0, 1, 2, 1, 4]
        assert after.betas[[0, 1, 2, 4]].tolist() == [1.0, 3.0, 10.0, 100.0]
        seen.add(float(after.betas[3]))
    assert seen == {6.0, 1.5}


def test_a_quarter_is_replaced_the_worst_by_the_best():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    assert exchanged(scores, np.ones(8), 2.0, (0,)).sources.tolist() == [7, 6, 2, 3, 4, 5, 6, 7]


def test_equals_keep_what_they_have():
    same = exchanged(np.full(5, 0.5), BETAS, 2.0, (0,))
    assert same.sources.tolist() == [0, 1, 2, 3, 4]
    assert same.betas.tolist() == BETAS.tolist()


def test_a_member_that_diverged_is_the_worst():
    scores = np.array([0.5, -np.inf, 0.1, 0.2, 0.3])
    assert exchanged(scores, BETAS, 2.0, (0,)).sources.tolist() == [0, 0, 2, 3, 4]


@pytest.mark.parametrize("count", [2, 3])
def test_two_members_are_enough(count):
    scores = np.arange(count) / 10
    sources = exchanged(scores, np.ones(count), 2.0, (0,)).sources
    assert sources[0] == count - 1
    assert sources[1:].tolist() == list(range(1, count))


def test_populations_of_one_group_do_not_mix(config):
    tuner = population(build(config), [0, 0, 0, 1, 1, 1], 4, 2.0)
    assert tuner.exchange is not None
    betas = np.array([1.0, 2.0, 3.0, 1.0, 2.0, 3.0])
    after = tuner.exchange(4, np.array([0.9, 0.1, 0.5, 0.2, 0.3, 0.8]), betas)
    assert after.sources.tolist() == [0, 0, 2, 5, 4, 5]
    assert after.betas[1] in (2.0, 0.5)
    assert after.betas[3] in (6.0, 1.5)
    start = tuner.exchange(0, np.zeros(6), betas)
    assert start.sources.tolist() == list(range(6))
    assert start.betas.tolist() == betas.tolist()


def test_betas_stay_in_their_range():
    """The best one cannot climb above 1e4, nor fall below 1e-3."""
    for beta in (1e-3, 1e4):
        after = [
            exchanged(np.array([1.0, 0.0]), np.array([beta, 1.0]), 100.0, (0, step)).betas[1]
            for step in range(20)
        ]
        assert 1e-3 <= min(after) <= max(after) <= 1e4
