"""From the config to splits: what is carved, whose classes count, and what two splits share."""

import collections
import dataclasses

import numpy as np
import pytest

from aft_jax.data import ArrayExamples, Records, load_split, load_splits, report_overlap
from aft_jax.data.sources import SOURCES
from aft_jax.errors import ConfigError, DataError

RED_AND_BLUE = ["red", "blue"] * 10


def records(labels, first, classes=None):
    """Rows whose content is a number of their own, from `first` on."""
    values = np.arange(first, first + len(labels), dtype=np.float32)
    return Records(
        examples=ArrayExamples(values[:, None]),
        labels=labels,
        digests=np.array([f"{int(value):016x}" for value in values]),
        classes=classes,
    )


@pytest.fixture
def serve(monkeypatch, make_config):
    """Splits by their name -> (a config whose source has them, how often each was read)."""

    def serve(**splits):
        reads = collections.Counter()

        def source(config, split):
            reads[split] += 1
            return splits[split]

        monkeypatch.setitem(SOURCES, "toy", source)
        return make_config("", source="toy"), reads

    return serve


def content(dataset):
    return [dataset.examples[row]["array"].item() for row in range(len(dataset))]


def test_train_and_tune_are_the_two_parts_of_a_carved_split(serve):
    config, _ = serve(train=records(RED_AND_BLUE, 0))
    train, tune = load_splits(config, "train", "tune")
    assert (train.split, tune.split) == ("train-rest0.2", "train-tune0.2")
    assert sorted(content(train) + content(tune)) == list(range(20))
    # A fifth of ten rows of each class.
    assert collections.Counter(tune.labels.tolist()) == {0: 2, 1: 2}
    assert train.version == tune.version
    for dataset in (train, tune):
        names = [dataset.classes[label] for label in dataset.labels]
        assert names == [RED_AND_BLUE[int(value)] for value in content(dataset)]


def test_one_split_at_a_time_is_the_same_as_all_at_once(serve):
    config, _ = serve(train=records(RED_AND_BLUE, 0), test=records(["blue"], 50))
    together = load_splits(config, "train", "tune", "test")
    for role, dataset in zip(("train", "tune", "test"), together, strict=True):
        alone = load_split(config, role)
        assert alone.ids.tolist() == dataset.ids.tolist()
        assert alone.split == dataset.split
        np.testing.assert_array_equal(alone.labels, dataset.labels)


def test_splits_come_in_the_order_they_are_asked_for(serve):
    config, _ = serve(train=records(RED_AND_BLUE, 0), test=records(["blue"], 50))
    splits = load_splits(config, "test", "tune", "train")
    assert [dataset.split for dataset in splits] == ["test", "train-tune0.2", "train-rest0.2"]


def test_no_split_of_the_source_is_read_twice(serve):
    config, reads = serve(train=records(RED_AND_BLUE, 0), test=records(["blue"], 50))
    load_splits(config, "train", "tune", "test")
    assert reads == {"train": 1, "test": 1}


def test_a_named_tune_split_is_taken_as_it_is(serve):
    config, reads = serve(train=records(RED_AND_BLUE, 0), dev=records(["red"] * 3, 50))
    named = dataclasses.replace(config, tune="dev", tune_fraction=0.0)
    train, tune = load_splits(named, "train", "tune")
    assert (train.split, len(train), tune.split, len(tune)) == ("train", 20, "dev", 3)
    assert reads == {"train": 1, "dev": 1}


def test_class_indices_of_every_split_are_those_of_train(serve):
    config, _ = serve(train=records(RED_AND_BLUE, 0), test=records(["red", "red", ""], 50))
    test = load_split(config, "test")
    assert test.classes == ("blue", "red")  # by name, though test has no blue
    assert test.labels.tolist() == [1, 1, -1]


def test_a_class_that_train_lacks_is_refused(serve):
    config, _ = serve(train=records(RED_AND_BLUE, 0), test=records(["red", "green", "green"], 50))
    with pytest.raises(DataError, match=r"split 'test'.*has 'green' \(2 rows\)"):
        load_split(config, "test")


def test_published_classes_of_test_in_another_order_do_not_swap_its_labels(serve):
    config, _ = serve(
        train=records([0, 1] * 10, 0, classes=("red", "blue")),
        test=records([0, 0, 1], 50, classes=("blue", "red")),
    )
    test = load_split(config, "test")
    assert test.classes == ("red", "blue")
    assert test.labels.tolist() == [1, 1, 0]


def test_published_classes_of_test_alone_do_not_renumber_it(serve):
    config, _ = serve(
        train=records(RED_AND_BLUE, 0),
        test=records([0, 0, 1], 50, classes=("red", "blue")),
    )
    test = load_split(config, "test")
    assert [test.classes[label] for label in test.labels] == ["red", "red", "blue"]
    assert test.classes == load_split(config, "train").classes


def test_shared_content_of_train_and_test_is_counted_and_warned_of(serve, caplog):
    config, _ = serve(train=records(RED_AND_BLUE, 0), test=records(["red", "blue"] * 3, 17))
    train, tune, test = load_splits(config, "train", "tune", "test")
    shared = {17, 18, 19}
    in_train, in_tune = len(shared & set(content(train))), len(shared & set(content(tune)))
    expected = {"train-rest0.2/test": in_train, "train-tune0.2/test": in_tune}
    found = report_overlap((train, tune, test))
    assert found == {pair: count for pair, count in expected.items() if count}
    assert sum(found.values()) == 3
    warned = [record.message for record in caplog.records]
    assert len(warned) == len(found)
    assert all("and 'test' share" in message for message in warned)


def test_one_split_in_two_roles_and_disjoint_splits_are_no_overlap(serve, caplog):
    config, _ = serve(train=records(RED_AND_BLUE, 0), test=records(["red"], 50))
    same = dataclasses.replace(config, tune="train", tune_fraction=0.0)
    assert report_overlap(load_splits(same, "train", "tune", "test")) == {}
    assert report_overlap(load_splits(config, "train", "tune", "test")) == {}
    assert not caplog.records


def test_the_whole_train_split_as_test_overlaps_both_of_its_parts(serve):
    config, _ = serve(train=records(RED_AND_BLUE, 0))
    both = load_splits(dataclasses.replace(config, test="train"), "train", "tune", "test")
    assert report_overlap(both) == {"train-rest0.2/train": 16, "train-tune0.2/train": 4}


def test_an_unknown_source_is_refused(make_config):
    with pytest.raises(ConfigError, match=r"config\.data\.source is one of .*; got 'paper'"):
        load_split(make_config("", source="paper"), "train")
