"""The record a data source returns: the examples of one split, each under a stable id."""

import dataclasses
import hashlib
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The examples of one split, in host memory.

    Attributes:
        name: of the data set, with its task where it has several.
        version: changes when the content does.
        split: name of the split.
        ids: [n] unique strings that do not depend on the position of an example.
        inputs: [n, ...] what the student reads.
        labels: [n] int32 class indices.
        classes: k class names.
    """

    name: str
    version: str
    split: str
    ids: np.ndarray
    inputs: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """The number of examples."""
        return int(self.ids.shape[0])


def ids_digest(ids: np.ndarray) -> str:
    """SHA-256 of the ordered example ids."""
    return hashlib.sha256("\n".join(ids.tolist()).encode()).hexdigest()


def take(dataset: Dataset, rows: np.ndarray, **changes: Any) -> Dataset:
    """The given rows of a data set, in that order.

    Args:
        dataset: the data set.
        rows: [m] integer positions.
        **changes: other fields to replace.

    Returns:
        The smaller data set.
    """
    return dataclasses.replace(
        dataset,
        ids=dataset.ids[rows],
        inputs=dataset.inputs[rows],
        labels=dataset.labels[rows],
        **changes,
    )
