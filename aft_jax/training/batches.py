"""From rows to the global batch that a step sees: inputs, labels, and the teachers' features.

Every process loads its own rows of a batch; together they are the global one.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from aft_jax.config import Config
from aft_jax.data import Dataset, Inputs, Order, PaddedRows, make_inputs, pick_views, prefetched
from aft_jax.data.images import stored_view
from aft_jax.errors import ConfigError
from aft_jax.features import (
    FeatureStore,
    TeacherFeatures,
    expected_fields,
    load_features,
    open_store,
    store_path,
)
from aft_jax.teachers import identify_teacher
from aft_jax.training.sharding import own_rows, to_global
from aft_jax.types import Batch, PyTree

_LOG = logging.getLogger(__name__)

THREADS = 4
"""Batches that are prepared at once, ahead of the step."""


class StudentData(NamedTuple):
    """A split, and what the student reads of it.

    Attributes:
        dataset: the examples.
        inputs: rows -> what the student reads of them.
    """

    dataset: Dataset
    inputs: Inputs


def read_by_student(config: Config, dataset: Dataset) -> StudentData:
    """A split with the inputs that the config's student reads."""
    return StudentData(dataset, make_inputs(config.inputs, config.augment, dataset))


def one_after_another(dataset: Dataset, first: StudentData, second: StudentData) -> StudentData:
    """Two splits as one, from what is read of each; for inputs whose shapes are the same for both.

    Args:
        dataset: their examples, the rows of the second after those of the first.
        first: a split.
        second: the other.

    Returns:
        Both, each read by its own.
    """
    before = len(first.dataset)

    def batch(rows: np.ndarray, *, views: Any = None, among: Any = None) -> PyTree:
        late = rows >= before
        places = [np.flatnonzero(~late), np.flatnonzero(late)]
        parts = [first.inputs(rows[places[0]]), second.inputs(rows[places[1]] - before)]
        order = np.argsort(np.concatenate(places))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays)[order], *parts)

    return StudentData(dataset, batch)


def require_teachers(config: Config) -> None:
    """Refuses a config that no store can serve, before anything is loaded.

    Args:
        config: of a method that reads teachers' features.

    Raises:
        ConfigError: it names no teacher, or shows views that no store has.
    """
    if not config.teachers:
        raise ConfigError(
            f"method {config.method!r} transfers from teachers; config.teachers is empty. "
            "Name at least one, or use method 'stl'."
        )
    if config.views < 0:
        raise ConfigError(
            "features of a view go with that view alone; config.views=-1 cuts fresh ones, which "
            "no teacher has seen. Extract stored ones with --config.views=4, say, and train with "
            "the same."
        )


def teacher_features(config: Config, dataset: Dataset, sharding: NamedSharding) -> TeacherFeatures:
    """The stored features of every teacher for the examples of a split.

    Args:
        config: names the teachers and their stores.
        dataset: the split's examples.
        sharding: rows over the devices.

    Returns:
        The features, by row of the split.

    Raises:
        StoreError: a store is missing or does not belong to this teacher and these examples.
    """
    stores = open_stores(config, dataset)
    return load_features(
        stores,
        dataset.ids,
        residency=config.features.residency,
        missing=config.features.missing,
        sharding=sharding,
    )


def open_stores(config: Config, dataset: Dataset) -> dict[str, FeatureStore]:
    """The stores of every teacher for the examples of a split.

    Args:
        config: names the teachers and their stores.
        dataset: the split's examples.

    Returns:
        Teacher name -> its store.

    Raises:
        StoreError: a store is missing or does not belong to this teacher and these examples.
    """
    stores = {}
    for name, teacher in config.teachers.items():
        identity = identify_teacher(teacher)
        if identity is None:
            _LOG.warning(
                "teacher %s is not at %s: its store is not compared with its weights",
                name,
                teacher.source,
            )
        expected = expected_fields(config, dataset, teacher, identity)
        stores[name] = open_store(store_path(config, name, dataset.split), expected)
    return stores


def host_batch(
    data: StudentData,
    features: TeacherFeatures | None,
    order: Order,
    step: int,
    views: int,
    sharding: NamedSharding,
    among: np.ndarray | None = None,
) -> dict[str, Any]:
    """This process's rows of a training step's batch, on the host.

    Args:
        data: the training split.
        features: the teachers' features of it, or None.
        order: which rows each step has.
        step: the step, from 0.
        views: as `config.views`.
        sharding: rows over the devices.
        among: rows that decide how far texts are padded, where batches are to have one shape; None
            for those of the batch.

    Returns:
        The fields of `Batch`, with what `features.source.gather` reads for "teacher_features"; a
        pure function of the arguments.
    """
    everyone = order.batch(step)
    rows = own_rows(everyone, sharding)
    ids, epoch = data.dataset.ids[rows], order.epoch(step)
    numbers = pick_views(order.seed, epoch, ids, views) if views > 0 else None
    keys = None
    if numbers is not None:
        pairs = zip(ids.tolist(), numbers.tolist(), strict=True)
        keys = [stored_view(name, number) for name, number in pairs]
    elif views < 0:
        keys = [f"{name}/{order.seed}/{epoch}" for name in ids]
    ones = np.ones(len(rows), np.float32)
    loaded, has_features = features.load(rows, numbers) if features else ({}, ones)
    return {
        "inputs": data.inputs(rows, views=keys, among=everyone if among is None else among),
        "labels": data.dataset.labels[rows],
        "mask": ones,
        "feature_mask": has_features,
        "teacher_features": loaded,
    }


def train_batch(
    data: StudentData,
    features: TeacherFeatures | None,
    order: Order,
    step: int,
    views: int,
    sharding: NamedSharding,
    among: np.ndarray | None = None,
) -> Batch:
    """The global batch of a training step; arguments as for `host_batch`."""
    host = host_batch(data, features, order, step, views, sharding, among)
    return with_features(Batch(**to_global(host, sharding)), features)


def with_features(batch: Batch, features: TeacherFeatures | None) -> Batch:
    """A batch with the teachers' features in place of what the host told of them.

    Args:
        batch: of what `host_batch` returned, on the devices.
        features: as there.

    Returns:
        The batch. Several processes call this in one order: it is a program of all of them.
    """
    if features is None:
        return batch
    return batch._replace(teacher_features=features.gathered(batch.teacher_features))


def eval_batch(
    data: StudentData,
    padded: PaddedRows,
    sharding: NamedSharding,
    among: np.ndarray | None = None,
) -> Batch:
    """The global batch of these rows of any split, padding masked, without teachers or views.

    Args:
        data: the split.
        padded: which rows, and which of them count.
        sharding: rows over the devices.
        among: as in `train_batch`.

    Returns:
        The batch.
    """
    rows, mask = own_rows(padded.rows, sharding), own_rows(padded.mask, sharding)
    host = {
        "inputs": data.inputs(rows, among=padded.rows if among is None else among),
        "labels": data.dataset.labels[rows],
        "mask": mask,
        "feature_mask": mask,
    }
    return Batch(**to_global(host, sharding), teacher_features={})


def eval_batches(
    data: StudentData, padded: Sequence[PaddedRows], sharding: NamedSharding
) -> Iterator[Batch]:
    """The batches of an evaluation, each prepared while those before it are used.

    Args:
        data: the split.
        padded: rows of each batch.
        sharding: rows over the devices.

    Returns:
        The batches, see `eval_batch`.
    """
    return prefetched(
        lambda number: eval_batch(data, padded[number], sharding), 0, len(padded), THREADS, THREADS
    )
