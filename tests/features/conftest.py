"""A small feature store and what a run would ask of it."""

import dataclasses
import hashlib

import numpy as np
import pytest

from aft_jax.data import Dataset
from aft_jax.features import describe, describe_teacher, write_store
from aft_jax.teachers import TeacherIdentity

ROWS, WIDTH = 7, 3


@pytest.fixture(scope="session")
def dataset():
    """Seven examples whose ids are in no order."""
    ids = [hashlib.sha256(bytes([row])).hexdigest()[:8] for row in range(ROWS)]
    return Dataset(
        name="toy/task",
        version="v1",
        split="train",
        ids=np.array(ids),
        inputs=np.zeros((ROWS, 2), np.float32),
        labels=np.zeros(ROWS, np.int32),
        classes=("a",),
    )


@pytest.fixture(scope="session")
def identity():
    return TeacherIdentity("toy/teacher", "r1", "abc123", "as given", "pooled")


@pytest.fixture(scope="session")
def features():
    return np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)


@pytest.fixture
def expected(dataset, identity):
    """The manifest fields of the run that the store is for."""
    return describe(dataset) | describe_teacher(identity)


@pytest.fixture
def store(tmp_path, dataset, features, expected):
    """A complete store, written in two batches."""
    path = tmp_path / "store"
    batches = [features[:4], features[4:]]
    write_store(path, dataset.ids, batches, WIDTH, teacher_parameters=9, **expected)
    return path


@pytest.fixture
def subset(dataset):
    """Makes the data set of these rows, in that order."""

    def make(rows):
        return dataclasses.replace(
            dataset,
            ids=dataset.ids[rows],
            inputs=dataset.inputs[rows],
            labels=dataset.labels[rows],
        )

    return make
