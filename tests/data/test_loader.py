"""The order of rows: every epoch another shuffle, every step a pure function of the seed."""

import threading

import numpy as np
import pytest

from aft_jax.data import RowOrder, evaluation_batches, pick_views, prefetched
from aft_jax.errors import ConfigError


def epoch_of(order, epoch):
    steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
    return np.concatenate([order.batch(step) for step in steps])


@pytest.mark.parametrize(("rows", "batch_size", "steps"), [(10, 3, 3), (10, 5, 2), (10, 10, 1)])
def test_an_epoch_shows_no_row_twice_and_drops_the_ragged_batch(rows, batch_size, steps):
    order = RowOrder(rows, batch_size, seed=0)
    assert order.steps_per_epoch == steps
    assert order.batch(0).shape == (batch_size,)
    for epoch in range(4):
        seen = epoch_of(order, epoch).tolist()
        assert len(seen) == steps * batch_size
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(rows))


def test_the_dropped_rows_change_so_that_all_are_seen():
    order = RowOrder(10, 3, seed=0)
    seen = {row for epoch in range(20) for row in epoch_of(order, epoch).tolist()}
    assert seen == set(range(10))


@pytest.mark.parametrize("batch_size", [2, 20])  # 20 rows: also when an epoch is one batch
def test_every_epoch_is_shuffled_anew(batch_size):
    order = RowOrder(20, batch_size, seed=0)
    epochs = {tuple(epoch_of(order, epoch).tolist()) for epoch in range(10)}
    assert len(epochs) == 10
    assert tuple(range(20)) not in epochs


def test_another_seed_is_another_order():
    assert (
        epoch_of(RowOrder(20, 5, seed=0), 0).tolist()
        != epoch_of(RowOrder(20, 5, seed=1), 0).tolist()
    )


def test_any_step_can_be_asked_for_in_any_order():
    forward = RowOrder(10, 3, seed=4)
    expected = [forward.batch(step).tolist() for step in range(12)]
    again = RowOrder(10, 3, seed=4)
    for step in (11, 0, 5, 4, 5, 3, 11, 2):
        assert again.batch(step).tolist() == expected[step]


def test_a_split_smaller_than_a_batch_is_refused():
    with pytest.raises(ConfigError, match=r"batch_size is at most the rows.*got 5 and 4 rows"):
        RowOrder(4, 5, seed=0)


@pytest.mark.parametrize(("rows", "batch_size"), [(10, 3), (9, 3), (2, 5), (1, 1)])
def test_evaluation_counts_each_row_once(rows, batch_size):
    batches = list(evaluation_batches(rows, batch_size))
    assert len(batches) == -(-rows // batch_size)
    assert all(batch.rows.shape == batch.mask.shape == (batch_size,) for batch in batches)
    assert all(batch.mask.dtype == np.float32 for batch in batches)
    counted = [row for batch in batches for row in batch.rows[batch.mask == 1].tolist()]
    assert counted == list(range(rows))
    assert sum(batch.mask.sum() for batch in batches) == rows


def test_the_filling_of_the_last_evaluation_batch():
    *_, last = evaluation_batches(4, 3)
    assert last.rows.tolist() == [3, 0, 0]
    assert last.mask.tolist() == [1, 0, 0]


def test_prefetched_elements_come_in_order():
    assert list(prefetched(lambda number: number * number, 3, 9, 3, 2)) == [9, 16, 25, 36, 49, 64]
    assert list(prefetched(lambda number: number, 3, 3, 2, 2)) == []


def test_an_error_while_loading_arrives_in_its_turn():
    def load(number):
        if number == 4:
            raise ConfigError("element four is bad")
        return number

    elements = prefetched(load, 0, 9, 3, 3)
    assert [next(elements) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="element four is bad"):
        next(elements)


def test_elements_are_made_ahead_and_in_several_threads():
    """Two loads that wait for each other finish only if both run at once."""
    together = threading.Barrier(2, timeout=20)

    def load(number):
        together.wait()
        return number

    assert list(prefetched(load, 0, 4, 2, 4)) == [0, 1, 2, 3]


def test_a_view_is_picked_by_seed_epoch_and_id():
    ids = np.array([f"id{row}" for row in range(3000)])
    picked = pick_views(0, 0, ids, 3)
    np.testing.assert_array_equal(picked, pick_views(0, 0, ids, 3))
    np.testing.assert_array_equal(picked[::-1], pick_views(0, 0, ids[::-1], 3))
    shares = np.bincount(picked, minlength=3) / 3000
    assert np.all(np.abs(shares - 1 / 3) < 0.04)
    for other in (pick_views(1, 0, ids, 3), pick_views(0, 1, ids, 3)):
        assert 0.25 < np.mean(picked == other) < 0.42  # independent: a third agree
