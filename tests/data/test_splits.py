"""Splits belong to the examples: literal sizes, no overlap, the order of the file is nothing."""

import dataclasses

import numpy as np
import pytest

from aft_jax.data.dataset import ArrayExamples, Dataset, take
from aft_jax.data.splits import Overlap, carve, overlap, stratified_splits
from aft_jax.errors import ConfigError, DataError

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


def dataset_of(ids, labels, digests=None, split="train"):
    ids = np.array(ids)
    return Dataset(
        name="set",
        version="0",
        split=split,
        ids=ids,
        labels=np.array(labels, np.int32),
        classes=("a", "b"),
        examples=ArrayExamples(np.arange(len(ids))),
        digests=np.char.add("digest of ", ids) if digests is None else np.array(digests),
    )


CARVED = dataset_of(IDS, [0] * 10 + [1] * 30 + [-1] * 10)


def test_tune_is_carved_out_of_train_by_class():
    rest, tune = carve(CARVED, 0.2, "salt")
    assert (rest.split, tune.split) == ("train-rest0.2", "train-tune0.2")
    assert [np.sum(tune.labels == label) for label in (0, 1, -1)] == [2, 6, 0]
    assert [np.sum(rest.labels == label) for label in (0, 1, -1)] == [8, 24, 10]
    assert sorted([*rest.ids.tolist(), *tune.ids.tolist()]) == sorted(IDS.tolist())
    for part in (rest, tune):
        for row, name in enumerate(part.ids.tolist()):
            assert name == f"example-{part.examples[row]['array']}"
            assert part.digests[row] == f"digest of {name}"


@pytest.mark.parametrize("seed", range(3))
def test_carving_does_not_depend_on_the_order(seed):
    order = np.random.default_rng(seed).permutation(len(CARVED))
    for before, after in zip(
        carve(CARVED, 0.2, "salt"), carve(take(CARVED, order), 0.2, "salt"), strict=True
    ):
        assert set(before.ids.tolist()) == set(after.ids.tolist())


def test_copies_are_not_torn_apart():
    digests = np.char.add("content ", (np.arange(50) % 25).astype(str))
    dataset = dataclasses.replace(CARVED, digests=digests)
    rest, tune = carve(dataset, 0.2, "salt")
    assert overlap(rest, tune) is None
    assert len(rest) + len(tune) == 50
    assert 0 < len(tune) <= 8
    apart = carve(dataclasses.replace(CARVED, digests=np.array([])), 0.2, "salt")
    assert set(tune.ids.tolist()) < set(apart[1].ids.tolist())


def test_a_class_of_one_row_stays_in_train():
    rest, tune = carve(dataset_of(["x", "y", "z"], [0, 1, 1]), 0.5, "salt")
    assert np.sum(rest.labels == 0) == 1
    assert tune.labels.tolist() == [1]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_fractions_that_carve_nothing(fraction):
    with pytest.raises(ConfigError, match=rf"tune_fraction is between 0 and 1 .*got {fraction}"):
        carve(CARVED, fraction, "salt")


def test_a_split_too_small_to_carve():
    with pytest.raises(DataError, match=r"0\.1 of split 'train' with 2 labelled rows in 2 classes"):
        carve(dataset_of(["x", "y", "z"], [0, 1, -1]), 0.1, "salt")


def test_overlap_by_content():
    a = dataset_of(["1", "2", "3"], [0, 0, 0], ["p", "q", "r"])
    b = dataset_of(["7", "8", "9"], [0, 0, 0], ["r", "s", "p"], "test")
    assert overlap(a, b) == Overlap(("train", "test"), 2, 0, (("3", "7"), ("1", "9")))


def test_equal_ids_of_other_content_are_counted_apart():
    a = dataset_of(["1", "2", "3"], [0, 0, 0], ["p", "q", "r"])
    b = dataset_of(["2", "3", "4"], [0, 0, 0], ["s", "r", "t"], "test")
    found = overlap(a, b)
    assert found is not None
    assert found == Overlap(("train", "test"), 1, 1, (("3", "3"), ("2", "2")))
    assert found.describe() == (
        "splits 'train' and 'test' share 1 examples, and 1 ids that stand for other content in "
        "each; for example 3 = 3, 2 = 2."
    )


def test_without_digests_equal_ids_are_equal_examples():
    a = dataset_of(["1", "2"], [0, 0], [])
    found = overlap(a, dataset_of(["2", "3"], [0, 0], split="test"))
    assert found == Overlap(("train", "test"), 1, 0, (("2", "2"),))


def test_no_overlap():
    assert overlap(dataset_of(["1"], [0]), dataset_of(["2"], [0])) is None
    assert overlap(*carve(CARVED, 0.2, "salt")) is None


def test_an_overlap_lists_a_few_pairs():
    found = overlap(CARVED, CARVED)
    assert found is not None
    assert (found.content, len(found.pairs)) == (50, 5)
