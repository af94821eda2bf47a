"""What a method that is fitted before training may look at: features of train and tune alone.

Of stores with views the first view of each example is read: a fit sees one row an example, and rows
of the kind that training shows.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from aft_jax.config import Config
from aft_jax.data import Dataset, evaluation_batches
from aft_jax.errors import ConfigError, StoreError
from aft_jax.features import read_whole
from aft_jax.losses.factors import named_factors, tensor_product
from aft_jax.training.batches import StudentData, eval_batches, open_stores
from aft_jax.training.sharding import replicated, row_sharded
from aft_jax.types import PyTree, Student, StudentFeatures

LARGEST = 2**30
"""Numbers in the student's features of the whole training split, in host memory."""

FIT_SEED = 0
"""Of every fit, whatever the run's seed: runs of all seeds share one, as in the published code."""


class Rows(NamedTuple):
    """The examples of a split that every teacher has features of.

    Attributes:
        features: name -> [n, t] float32, under the names that batches have.
        labels: [n] class indices; -1 for an example without label.
    """

    features: Mapping[str, np.ndarray]
    labels: np.ndarray


class Evidence(NamedTuple):
    """What a fit may look at.

    Attributes:
        train: what is fitted.
        tune: () -> what may stop a fit or choose its settings.
        num_classes: k.
        student: () -> [n, d] float32, the start student's features of the rows of `train`.
    """

    train: Rows
    tune: Callable[[], Rows]
    num_classes: int
    student: Callable[[], np.ndarray]


def gather_evidence(
    config: Config, train: Dataset, tune: Dataset, student: Callable[[], np.ndarray]
) -> Evidence:
    """Reads the stored features of train, and those of tune for a fit that asks for them.

    Args:
        config: names the teachers and their stores.
        train: the training split.
        tune: the split that may choose.
        student: () -> [n, d] the start student's features of every example of `train`.

    Returns:
        The evidence; examples without features are left out.

    Raises:
        StoreError: a store is missing, does not belong to this teacher and these examples, or has
            features of none of them.
    """
    rows, present = _rows(config, train)
    return Evidence(
        train=rows,
        tune=lambda: _rows(config, tune)[0],
        num_classes=len(train.classes),
        student=lambda: student()[present],
    )


def start_features(
    student: Student, variables: PyTree, data: StudentData, batch_size: int, mesh: Mesh
) -> np.ndarray:
    """A student's features of every example of a split, in inference mode and without views.

    Args:
        student: the student.
        variables: its weights.
        data: the split.
        batch_size: rows of a global batch.
        mesh: the devices.

    Returns:
        [n, d] float32; features that are factors are multiplied out.

    Raises:
        ConfigError: they are too many.
    """
    padded, rows = evaluation_batches(len(data.dataset), batch_size), row_sharded(mesh)
    everywhere = replicated(mesh)

    def features(variables: PyTree, inputs: PyTree) -> jax.Array:
        output, _ = student.apply(variables, inputs, False, {})
        wide = jax.tree.map(lambda factor: factor.astype(jnp.float32), output.features)
        _require_room(wide, len(data.dataset))
        return tensor_product(wide)

    pooled = jax.jit(features, in_shardings=(everywhere, rows), out_shardings=everywhere)
    return np.concatenate(
        [
            jax.device_get(pooled(variables, batch.inputs))[numbers.mask > 0]
            for numbers, batch in zip(padded, eval_batches(data, padded, rows), strict=True)
        ]
    )


def _rows(config: Config, dataset: Dataset) -> tuple[Rows, np.ndarray]:
    missing = config.features.missing
    whole = read_whole(open_stores(config, dataset), dataset.ids, views=(0,), missing=missing)
    present = whole.present
    if not present.any():
        raise StoreError(
            f"method {config.method!r} is fitted to the teachers' features; none of the "
            f"{len(dataset)} examples of {dataset.split!r} has those of every teacher. Extract "
            "the features of this split again."
        )
    if present.all():
        return Rows(whole.named, dataset.labels), present
    kept = {name: features[present] for name, features in whole.named.items()}
    return Rows(kept, dataset.labels[present]), present


def _require_room(features: StudentFeatures, rows: int) -> None:
    width = math.prod(factor.shape[1] for factor in named_factors(features).values())
    if rows * width > LARGEST:
        raise ConfigError(
            f"a fit to the student's features holds at most {LARGEST} numbers; got {rows} rows of "
            f"{width}. Choose another config.method: kernels need no such array."
        )
