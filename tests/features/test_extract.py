"""The `extract` verb's function: the stores the config names, once, and never another teacher's."""

import dataclasses
import importlib
import json
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.config import resolve
from aft_jax.data import load_split
from aft_jax.data.dataset import take
from aft_jax.errors import ConfigError, StoreError
from aft_jax.features import describe, extract, join, open_store, read_manifest, store_path
from aft_jax.students import make_student, save_student
from aft_jax.training.experiment import teacher_features
from configs import digits

# The package names its function as the module: an import statement finds the function.
extract_module = importlib.import_module("aft_jax.features.extract")

OPTIONS = {"widths": (4,), "strides": (2,)}
STUDENT = make_student("small_cnn", 10, OPTIONS)


def variables_of(seed):
    return jax.device_get(jax.jit(STUDENT.init)(jax.random.key(seed), jnp.zeros((1, 8, 8, 1))))


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """The config, the weights of its teacher and the stores."""
    root = tmp_path_factory.mktemp("extract")
    variables = variables_of(0)
    save_student(root / "teacher", "small_cnn", 10, OPTIONS, variables)
    raw: Any = digits.get_config("stage=student,smoke")
    raw.features_dir = str(root / "features")
    raw.teachers.wide_cnn.source = str(root / "teacher")
    config = resolve(raw)
    return config, variables, extract(config)


def modification_times(stores):
    return [path.stat().st_mtime_ns for store in stores for path in sorted(store.rglob("*"))]


def test_train_and_tune_get_a_store_and_test_none(extracted):
    config, _, stores = extracted
    root = store_path(config, "wide_cnn", "train").parent
    assert stores == [root / "digits-digit-train", root / "digits-digit-tune"]
    assert sorted(path.name for path in root.iterdir()) == [store.name for store in stores]
    assert root.parent.name == "features"
    assert [read_manifest(store).shape for store in stores] == [(101, 4), (199, 4)]


def test_features_are_the_teachers(extracted):
    _, variables, stores = extracted
    apply = jax.jit(STUDENT.apply, static_argnums=2)
    for split, store in zip(("train", "tune"), stores, strict=True):
        dataset = load_split("digits", split, "digit")
        output, _ = apply(variables, dataset.inputs, False, {})
        joined = join(open_store(store, describe(dataset)), dataset.ids)
        np.testing.assert_allclose(joined, output.features, rtol=1e-5, atol=1e-6)


def test_the_manifest_counts_the_teacher(extracted):
    _, variables, stores = extracted
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert [read_manifest(store).teacher_parameters for store in stores] == [count, count]


def test_a_second_time_changes_nothing(extracted):
    config, _, stores = extracted
    before = modification_times(stores)
    assert extract(config) == stores
    assert modification_times(stores) == before


def test_the_store_of_another_teacher_is_refused(extracted, tmp_path):
    config, _, stores = extracted
    save_student(tmp_path, "small_cnn", 10, OPTIONS, variables_of(1))
    other = dataclasses.replace(config.teachers["wide_cnn"], source=str(tmp_path))
    before = modification_times(stores)
    with pytest.raises(
        StoreError, match=r"digits-digit-train does not fit\. teacher_weights_sha256"
    ):
        extract(dataclasses.replace(config, teachers={"wide_cnn": other}))
    assert modification_times(stores) == before


def test_another_pooling_is_refused_where_the_teacher_is_elsewhere(extracted, tmp_path):
    config, _, stores = extracted
    elsewhere = dataclasses.replace(config.teachers["wide_cnn"], source=str(tmp_path / "none"))
    moved = dataclasses.replace(
        config, features_dir=str(tmp_path), teachers={"wide_cnn": elsewhere}
    )
    dataset = load_split("digits", "train", "digit")
    store = store_path(moved, "wide_cnn", "train")
    shutil.copytree(stores[0], store)
    assert teacher_features(moved, dataset, "train")["wide_cnn"].shape == (101, 4)
    manifest = store / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"pooling": "cls"}))
    with pytest.raises(StoreError, match="pooling: the store has 'cls', the run needs 'pooled'"):
        teacher_features(moved, dataset, "train")


def test_a_split_without_examples_is_refused(extracted, tmp_path, monkeypatch):
    config, _, _ = extracted
    full = load_split("digits", "train", "digit")
    empty = take(full, np.zeros(0, int))
    monkeypatch.setattr(extract_module, "load_split", lambda *_: empty)
    with pytest.raises(StoreError, match="at least one example; the split is empty"):
        extract(dataclasses.replace(config, features_dir=str(tmp_path)))


def test_another_task_is_another_store(extracted):
    config, _, _ = extracted
    instance = dataclasses.replace(config.data, task="instance")
    path = store_path(dataclasses.replace(config, data=instance), "wide_cnn", "train")
    assert path.name == "digits-instance-train"


def test_a_damaged_store_is_not_taken_for_done(extracted, tmp_path):
    config, _, stores = extracted
    features = tmp_path / "features"
    shutil.copytree(stores[0].parents[1], features)
    ids = features / "wide_cnn" / stores[1].name / "ids.txt"
    ids.write_bytes(ids.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"ids\.txt"):
        extract(dataclasses.replace(config, features_dir=str(features)))


def test_extract_needs_a_teacher(extracted):
    config, _, _ = extracted
    with pytest.raises(ConfigError, match=r"config\.teachers is empty"):
        extract(dataclasses.replace(config, teachers={}))
