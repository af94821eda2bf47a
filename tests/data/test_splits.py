"""Splits belong to the examples: literal sizes, no overlap, the order of the file is nothing."""

import numpy as np
import pytest

from aft_jax.data.splits import stratified_splits

FRACTIONS = {"train": 0.5, "tune": 0.3, "test": 0.2}
IDS = np.array([f"example-{i}" for i in range(50)])
LABELS = np.array([0] * 10 + [7] * 40)


def ids_by_split(ids, labels, salt="salt"):
    splits = stratified_splits(ids, labels, FRACTIONS, salt)
    return {name: set(ids[rows].tolist()) for name, rows in splits.items()}


def test_each_example_is_in_one_split():
    rows = np.concatenate(list(stratified_splits(IDS, LABELS, FRACTIONS, "salt").values()))
    assert sorted(rows.tolist()) == list(range(50))


def test_each_class_is_cut_alike():
    splits = stratified_splits(IDS, LABELS, FRACTIONS, "salt")
    counts = {name: (np.bincount(LABELS[rows])[[0, 7]]).tolist() for name, rows in splits.items()}
    assert counts == {"train": [5, 20], "tune": [3, 12], "test": [2, 8]}


def test_positions_are_sorted():
    for rows in stratified_splits(IDS, LABELS, FRACTIONS, "salt").values():
        assert np.all(np.diff(rows) > 0)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_file_does_not_matter(seed):
    order = np.random.default_rng(seed).permutation(50)
    assert ids_by_split(IDS[order], LABELS[order]) == ids_by_split(IDS, LABELS)


def test_the_first_rows_of_a_file_do_not_stay_together():
    rows = stratified_splits(IDS, LABELS, FRACTIONS, "salt")["train"]
    assert rows.tolist() != [*range(5), *range(10, 30)]


def test_another_salt_cuts_another_way():
    assert ids_by_split(IDS, LABELS, "other") != ids_by_split(IDS, LABELS)


def test_fractions_that_do_not_add_up():
    with pytest.raises(ValueError, match=r"fractions add up to 1; got \{'train': 0\.5\}"):
        stratified_splits(IDS, LABELS, {"train": 0.5}, "salt")
