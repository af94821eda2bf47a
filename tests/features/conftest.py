"""A small feature store, what a run would ask of it, and a teacher that costs nothing."""

import dataclasses
import hashlib
import importlib
import json
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from aft_jax.config import resolve
from aft_jax.config.defaults import base_config, teacher
from aft_jax.data import ArrayExamples, Dataset
from aft_jax.features import describe, describe_teacher, read_manifest, shards, write_store
from aft_jax.teachers import Teacher, TeacherIdentity

ROWS, WIDTH = 7, 3


def make_dataset(rows, split="train"):
    """Examples whose ids are in no order, each an array of its own numbers."""
    ids = [hashlib.sha256(f"{split}{row}".encode()).hexdigest()[:8] for row in range(rows)]
    values = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    return Dataset(
        name="toy/task",
        version="v1",
        split=split,
        ids=np.array(ids),
        labels=np.zeros(rows, np.int32),
        classes=("a",),
        examples=ArrayExamples(values),
        digests=np.array(ids),
    )


@pytest.fixture(scope="session")
def dataset():
    return make_dataset(ROWS)


@pytest.fixture(scope="session")
def identity():
    return TeacherIdentity("toy/teacher", "r1", "abc123", "as given", "pooled")


@pytest.fixture(scope="session")
def features():
    return np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)


@pytest.fixture
def expected(dataset, identity):
    """The plan's fields of the run that the store is for."""
    return describe(dataset) | describe_teacher(identity)


@pytest.fixture
def small_shards(monkeypatch):
    """Three rows a shard."""
    monkeypatch.setattr(shards, "MAX_SHARD_ROWS", 3)


@pytest.fixture
def store(tmp_path, dataset, features, expected, small_shards):
    """A complete store of three shards, written in two batches."""
    path = tmp_path / "store"
    batches = [features[:4], features[4:]]
    write_store(str(path), dataset.ids, batches, WIDTH, teacher_parameters=9, **expected)
    return path


@pytest.fixture(scope="session")
def sharding():
    """Rows over four devices."""
    mesh = jax.make_mesh((4,), ("data",), (AxisType.Auto,), devices=jax.devices()[:4])
    return NamedSharding(mesh, P("data"))


@pytest.fixture(scope="session")
def config():
    """One toy teacher, batches of four rows."""
    raw: Any = base_config()
    raw.data.update({"name": "toy", "source": "digits", "train": "train", "tune": "tune"})
    raw.teachers.toy = teacher("flax", "nowhere")
    raw.features.update({"batch_size": 4, "threads": 2})
    return resolve(raw)


@pytest.fixture
def run(config, tmp_path, monkeypatch, small_shards):
    """The config with its stores in a fresh directory, over splits of 10 and 4 toy rows."""
    splits = {"train": make_dataset(10), "tune": make_dataset(4, "tune")}
    serve(monkeypatch, splits)
    features = dataclasses.replace(config.features, directory=str(tmp_path / "features"))
    return dataclasses.replace(config, features=features)


def serve(monkeypatch, splits):
    """Makes these data sets the splits of every config."""
    for name in ("extract", "verify", "official"):
        # The package names its functions as the modules: an import statement finds the function.
        module = importlib.import_module(f"aft_jax.features.{name}")
        monkeypatch.setattr(module, "load_splits", lambda _, *roles: tuple(map(splits.get, roles)))


class ToyTeacher:
    """Two parts of widths 1 and 2, linear in the example; counts and can be made to fail."""

    def __init__(self, identity, fail_after=None):
        self.rows, self.batches, self.fail_after = 0, 0, fail_after
        self.teacher = Teacher(identity, self.prepare, self.features, parameters=9)

    def prepare(self, examples):
        return np.stack([example["array"] for example in examples])

    def features(self, prepared):
        if self.batches == self.fail_after:
            raise KeyboardInterrupt("killed")
        self.batches += 1
        self.rows += len(prepared)
        return {
            "text": prepared * np.array([1, 0.5], np.float32),
            "image": prepared.sum(1, keepdims=True),
        }


def toy_features(dataset):
    """What the toy teacher makes of a split: parts side by side, in the order of their names."""
    x = dataset.examples.array
    return np.stack([x[:, 0] + x[:, 1], x[:, 0], x[:, 1] / 2], axis=1)


@pytest.fixture
def toy(identity):
    """Makes a toy teacher."""
    return lambda **options: ToyTeacher(identity, **options)


def edit_manifest(store, **changes):
    """Changes fields and makes the manifest's own hash right again."""
    path = store / "manifest.json"
    fields = json.loads(path.read_text()) | changes
    del fields["manifest_sha256"]
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(fields | {"manifest_sha256": digest}))


def replace_file(store, name, content):
    """With its hash: damage that only the content shows."""
    (store / name).write_bytes(content)
    hashes = {**read_manifest(str(store)).files_sha256, name: hashlib.sha256(content).hexdigest()}
    edit_manifest(store, files_sha256=hashes)
