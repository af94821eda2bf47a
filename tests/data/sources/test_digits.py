"""The digits: what is in which split, under which id, and the two tasks."""

import hashlib
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from sklearn.utils import Bunch

from aft_jax.config import DataConfig
from aft_jax.config.defaults import base_config
from aft_jax.data import Dataset, ids_digest, load_split
from aft_jax.errors import ConfigError

# Images of each digit, from the description of the data set.
PER_CLASS = np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
SIZES = {"upstream": 898, "train": 101, "tune": 199, "test": 599}


def load(split: str, task: str) -> Dataset:
    data = base_config().data
    data.update(name="digits", source="digits", task=task, columns={}, train=split)
    return load_split(DataConfig(**data.to_dict()), "train")


def inputs(dataset: Dataset) -> np.ndarray:
    return np.stack([dataset.examples[row]["array"] for row in range(len(dataset))])


@pytest.fixture(scope="module")
def splits():
    return {name: load(name, "digit") for name in SIZES}


def test_sizes(splits):
    assert {name: len(dataset) for name, dataset in splits.items()} == SIZES
    assert sum(SIZES.values()) == 1797


def test_every_image_is_in_one_split(splits):
    ids = np.concatenate([dataset.ids for dataset in splits.values()])
    assert len(set(ids.tolist())) == 1797


def test_every_class_is_shared_out_alike(splits):
    shares = {"upstream": 1 / 2, "train": 1 / 18, "tune": 1 / 9, "test": 1 / 3}
    counts = {name: np.bincount(dataset.labels) for name, dataset in splits.items()}
    assert np.array_equal(sum(counts.values()), PER_CLASS)
    for name, share in shares.items():
        assert np.all(np.abs(counts[name] - share * PER_CLASS) <= 1)


def test_inputs_labels_and_names(splits):
    for name, dataset in splits.items():
        pixels = inputs(dataset)
        assert pixels.shape == (SIZES[name], 8, 8, 1)
        assert pixels.dtype == np.float32
        assert (pixels.min(), pixels.max()) == (-1, 1)
        assert dataset.labels.shape == (SIZES[name],)
        assert dataset.labels.dtype == np.int32
        assert dataset.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
        assert (dataset.name, dataset.split) == ("digits/digit", name)
    assert len({dataset.version for dataset in splits.values()}) == 4


def test_an_id_is_the_hash_of_its_image(splits):
    for dataset in splits.values():
        pixels = ((inputs(dataset)[..., 0] + 1) * 8).astype(np.uint8)
        hashes = [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in pixels]
        assert dataset.ids.tolist() == hashes


def test_the_order_of_the_file_does_not_matter(splits, monkeypatch):
    raw: Any = sklearn.datasets.load_digits()
    order = np.random.default_rng(0).permutation(1797)
    shuffled = Bunch(images=raw.images[order], target=raw.target[order])
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: shuffled)
    for name, before in splits.items():
        after = load(name, "digit")
        labels = dict(zip(after.ids.tolist(), after.labels.tolist(), strict=True))
        assert labels == dict(zip(before.ids.tolist(), before.labels.tolist(), strict=True))
        assert after.version == before.version


def test_an_instance_is_an_image_at_nine_places(splits):
    plain, shifted = splits["train"], load("train", "instance")
    assert len(shifted) == 9 * 101
    assert len(set(shifted.ids.tolist())) == 9 * 101
    assert shifted.name == "digits/instance"
    assert shifted.classes == tuple(plain.ids.tolist())
    assert shifted.labels.dtype == np.int32
    for row in (0, 100, 101, 908):
        assert shifted.ids[row].split("-")[0] == shifted.classes[shifted.labels[row]]
    assert np.array_equal(np.bincount(shifted.labels), np.full(101, 9))


def test_the_shifts(splits):
    plain, shifted = splits["train"], load("train", "instance")

    def at(name):
        rows = np.flatnonzero(np.char.endswith(shifted.ids, f"-shift{name}"))
        assert np.array_equal(shifted.labels[rows], np.arange(101))
        return inputs(shifted)[rows]

    assert np.array_equal(at("11"), inputs(plain))
    down_and_right = at("00")
    assert np.array_equal(down_and_right[:, 1:, 1:], inputs(plain)[:, :-1, :-1])
    assert np.all(down_and_right[:, 0] == -1)
    assert np.all(down_and_right[:, :, 0] == -1)
    assert np.array_equal(at("12")[:, :, :-1], inputs(plain)[:, :, 1:])


def test_unknown_names():
    with pytest.raises(ConfigError, match=r"split of digits is one of upstream, .*; got 'valid'"):
        load("valid", "digit")
    with pytest.raises(ConfigError, match=r"data\.task of digits is one of digit, inst.*got 'x'"):
        load("train", "x")
    raw = base_config().data.to_dict() | {"source": "mnist"}
    with pytest.raises(
        ConfigError, match=r"data\.source is one of arrays, csv, digits, .*; got 'mnist'"
    ):
        load_split(DataConfig(**raw), "train")


def test_the_digest_of_ids_tells_their_order():
    ids = np.array(["a", "b"])
    assert ids_digest(ids) == hashlib.sha256(b"a\nb").hexdigest()
    assert ids_digest(ids[::-1]) != ids_digest(ids)
