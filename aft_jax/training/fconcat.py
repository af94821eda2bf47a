"""The method "fconcat": a linear classifier of the teachers' stored features, without a student.

It says how much of the task the teachers' features hold. It runs at the cost of all teachers, so it
is no rival of a small student.
"""

import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.config import Config
from aft_jax.data import Dataset
from aft_jax.errors import ConfigError, StoreError
from aft_jax.features import has_store, read_whole, store_path
from aft_jax.losses.factors import tensor_product
from aft_jax.losses.validation import COMBINATIONS, check_choice
from aft_jax.students import SavedStudent, Start
from aft_jax.students.layers.head import HEAD
from aft_jax.training.batches import StudentData, open_stores, require_teachers
from aft_jax.training.learner import Learner, built_width, trained_start
from aft_jax.types import PyTree, Student, StudentOutput

_LOG = logging.getLogger(__name__)

NAME = "fconcat"
STATISTICS = "statistics"


def fconcat(config: Config, combine: str = "concat") -> Learner:
    """A linear classifier on the teachers' features, standardised over the training split.

        logits = W [(T_1 - m_1) / s_1, (T_2 - m_2) / s_2, ...] + c

    An example with stored views has the mean of their features, in training and in evaluation. One
    without features (config.features.missing="skip") has the training mean: its logits are c.

    Args:
        config: names the teachers; their stores of all three splits are there.
        combine: "concat", or "product" for the tensor product of the teachers (of two modalities).

    Returns:
        The learner; it holds the features in host memory as float32.

    Raises:
        ConfigError: the config names no teacher, or fresh views.
        StoreError: the test split has no stores.
        ValueError: `combine` is unknown.
    """
    check_choice("combine", combine, COMBINATIONS)
    require_teachers(config)
    _require_test(config)
    return _learner(config, combine, lambda train: _standardised(combine, train))


def saved_fconcat(config: Config, saved: SavedStudent) -> Learner:
    """The classifier of a finished run, with its trained weights."""
    start = trained_start(saved)
    return _learner(config, saved.options["combine"], lambda train: start)


def _learner(config: Config, combine: str, start: Any) -> Learner:
    return Learner(
        NAME,
        read=lambda dataset: _read(config, dataset),
        make=lambda classes: _classifier(len(classes), combine),
        start=start,
    )


def _require_test(config: Config) -> None:
    """Now: after hours of training is no time to find the features of the test split missing."""
    paths = [store_path(config, name, config.data.test) for name in config.teachers]
    missing = [path for path in paths if not has_store(path)]
    if missing:
        raise StoreError(
            f"method {NAME!r} reads the teachers' features of every split; those of test are not "
            f'at {", ".join(missing)}. Set config.features.splits to ("train", "tune", "test") '
            "and run `aft-jax extract` (or import-official) again: what is there is kept."
        )


def _read(config: Config, dataset: Dataset) -> StudentData:
    views = range(max(1, config.views))
    missing = config.features.missing
    whole = read_whole(open_stores(config, dataset), dataset.ids, views=views, missing=missing)
    absent = int(np.count_nonzero(~whole.present))
    if absent:
        _LOG.warning(
            "%s: %d of the %d examples of %s have no features and count as the training mean",
            *(NAME, absent, len(dataset), dataset.split),
        )
    present = whole.present.astype(np.float32)

    def batch(rows: np.ndarray, *, views: Any = None, among: Any = None) -> PyTree:
        named = {name: features[rows] for name, features in whole.named.items()}
        return {"features": named, "present": present[rows]}

    return StudentData(dataset, batch)


def _classifier(num_classes: int, combine: str) -> Student:
    def init(key: jax.Array, inputs: PyTree) -> PyTree:
        widths = {name: array.shape[1] for name, array in inputs["features"].items()}
        width = sum(widths.values())
        if combine == "product":
            width = built_width("the teachers' features", list(widths.values()))
        kernel = jnp.zeros((width, num_classes), jnp.float32)  # convex: any start will do
        head = {"kernel": kernel, "bias": jnp.zeros((num_classes,), jnp.float32)}
        statistics = {
            name: {"mean": jnp.zeros((t,), jnp.float32), "scale": jnp.ones((t,), jnp.float32)}
            for name, t in widths.items()
        }
        return {"params": {HEAD: head}, STATISTICS: statistics}

    def apply(variables, inputs, train, rngs) -> tuple[StudentOutput, PyTree]:
        present = inputs["present"][:, None]
        parts = {
            name: present * _standardise(variables[STATISTICS][name], array)
            for name, array in inputs["features"].items()
        }
        joined = jnp.concatenate([parts[name] for name in sorted(parts)], axis=1)
        whole = tensor_product(parts) if combine == "product" else joined
        head = variables["params"][HEAD]
        logits = whole @ head["kernel"] + head["bias"][None]
        return StudentOutput(logits, parts if combine == "product" else joined), variables

    return Student(init, apply)


def _standardise(statistics: Mapping[str, jax.Array], features: jax.Array) -> jax.Array:
    return (features - statistics["mean"][None]) / statistics["scale"][None]


def _standardised(combine: str, train: StudentData) -> Start:
    """The start: a classifier of zeros, and the statistics of the training split."""
    inputs = train.inputs(np.arange(len(train.dataset)))
    rows = inputs["present"] > 0
    if not rows.any():
        raise ConfigError(
            f"method {NAME!r} reads the teachers' features; none of the {len(rows)} examples of "
            f"{train.dataset.split!r} has any. Extract them, or leave config.features.missing."
        )
    found = {name: _moments(array[rows]) for name, array in inputs["features"].items()}

    def fill(variables: PyTree) -> PyTree:
        return {**variables, STATISTICS: found}

    return Start({"combine": combine}, fill, {})


def _moments(features: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and standard deviation of each column; a constant column keeps its size."""
    mean = features.mean(axis=0, dtype=np.float64)
    scale = features.std(axis=0, dtype=np.float64)
    # Rounding alone spreads a constant: its deviation is no scale.
    # A deviation that is no normal number divides to infinity.
    constant = scale <= np.maximum(1e-6 * np.abs(mean), np.finfo(np.float32).tiny)
    scale = np.where(constant, 1.0, scale)
    return {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32)}
