"""Ids, labels and versions: what every source's rows go through."""

import hashlib

import numpy as np
import pytest

from aft_jax.data.dataset import ArrayExamples
from aft_jax.data.records import Records, assemble, class_names, first_few
from aft_jax.errors import DataError


def records(labels, ids=None, classes=None, contents=None):
    contents = list(range(len(labels))) if contents is None else contents
    digests = np.array([hashlib.sha256(str(c).encode()).hexdigest()[:16] for c in contents])
    declared = None if ids is None else np.array(ids)
    return Records(ArrayExamples(np.array(contents)), labels, digests, declared, classes)


def train(*args, **kwargs):
    return assemble(records(*args, **kwargs), "set", "train")


def by_id(dataset):
    rows = zip(dataset.ids.tolist(), dataset.labels.tolist(), strict=True)
    contents = [int(dataset.examples[row]["array"]) for row in range(len(dataset))]
    return {name: (label, contents[row]) for row, (name, label) in enumerate(rows)}


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["dog", "cat", "dog"], ("cat", "dog")),
        ([10, 9, 2], ("2", "9", "10")),
        (["10", "9", "2"], ("2", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["b", None, "", -1, "-1", "a"], ("a", "b")),
    ],
)
def test_the_train_split_lists_the_classes(labels, classes):
    assert class_names(records(labels)) == classes
    dataset = train(labels)
    assert dataset.classes == classes
    for label, index in zip(labels, dataset.labels.tolist(), strict=True):
        assert index == (-1 if label in (None, "", -1, "-1") else classes.index(str(label)))
    assert dataset.labels.dtype == np.int32


def test_published_classes_keep_their_order():
    dataset = train([1, 0, -1, "z"], classes=("z", "a"))
    assert dataset.classes == ("z", "a")
    assert dataset.labels.tolist() == [1, 0, -1, 0]
    with pytest.raises(DataError, match=r"the 2 published classes, .* 'train' .* has label 2"):
        train([0, 2], classes=("z", "a"))


def test_other_splits_take_the_classes_of_train():
    dataset = assemble(records(["b", "c"]), "set", "test", ("a", "b", "c"))
    assert dataset.labels.tolist() == [1, 2]
    assert (dataset.name, dataset.split, dataset.classes) == ("set", "test", ("a", "b", "c"))


def test_a_class_that_train_lacks_is_refused():
    message = r"class of the train split \(a\); split 'test' of data set 'set' has 'b' \(2 rows\), "
    with pytest.raises(DataError, match=message + r"'c' \(1 rows\), first at 'two'"):
        assemble(records(["a", "b", "c", "b"], ["1", "two", "3", "4"]), "set", "test", ("a",))


def test_an_empty_split_is_refused():
    with pytest.raises(DataError, match=r"at least one example; split 'test' .* 'set' has none\."):
        assemble(records([]), "set", "test", ("a",))


def test_a_train_split_without_labels_is_refused():
    with pytest.raises(DataError, match="none of its 2 rows has a label"):
        train([None, ""])


def test_declared_ids_are_unique():
    message = r"belongs to one example; split 'train' .* has 'x' \(3 rows\), 'y' \(2 rows\)"
    with pytest.raises(DataError, match=message):
        train(["a"] * 6, ["x", "y", "x", "z", "y", "x"])
    with pytest.raises(DataError, match="has an empty id"):
        train(["a", "a"], ["x", ""])
    assert train(["a", "a"], [7, 8]).ids.tolist() == ["7", "8"]


def test_ids_of_equal_content_are_numbered_whatever_the_order():
    forward = train(["a", "b", "a", "b"], contents=[5, 5, 6, 5])
    digest = hashlib.sha256(b"5").hexdigest()[:16]
    assert set(forward.ids.tolist()) == {
        *(digest, f"{digest}-1", f"{digest}-2"),
        hashlib.sha256(b"6").hexdigest()[:16],
    }
    backward = train(["b", "a", "b", "a"], contents=[5, 6, 5, 5])
    assert by_id(forward) == by_id(backward)
    assert forward.version == backward.version


def test_ids_and_version_do_not_depend_on_the_order():
    labels, contents = ["a", "b", "c", "b"], [3, 1, 4, 2]
    before = train(labels, contents=contents)
    order = [2, 0, 3, 1]
    after = train([labels[i] for i in order], contents=[contents[i] for i in order])
    assert by_id(after) == by_id(before)
    assert after.version == before.version


def test_the_version_changes_with_content_label_and_id():
    whole = {"labels": ["a", "b"], "ids": ["x", "y"], "contents": [1, 2]}
    changes = [{}, {"labels": ["a", "a"]}, {"ids": ["x", "z"]}, {"contents": [1, 3]}]
    versions = [train(**(whole | change)).version for change in changes]
    assert len(set(versions)) == len(changes)
    assert all(len(version) == 16 for version in versions)
    fewer = train(["a"], ["x"], contents=[1])
    assert fewer.version not in versions


def test_long_lists_are_cut():
    assert first_few(["a", "b"], 2) == "a, b"
    assert first_few(["a", "b", "c", "d"], 2) == "a, b and 2 more"
