"""The record a data source returns: the examples of one split, each under a stable id."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

Example = Mapping[str, Any]
"""One example before anyone's preprocessing, under the names it has:

    "image"  uint8 [h, w, 3]
    "text"   str
    "array"  any array, ready for the student
"""


@runtime_checkable
class Examples(Protocol):
    """Random access to examples that are read, and decoded, only when asked for; thread-safe."""

    def __len__(self) -> int:
        """The number of examples."""
        ...

    def __getitem__(self, row: int, /) -> Example:
        """The example at a position.

        Raises:
            DataError: it cannot be read; the message names the file or row.
        """
        ...


@dataclasses.dataclass(frozen=True)
class ArrayExamples:
    """Examples that are rows of one array in host memory.

    Attributes:
        array: [n, ...].
        name: the key under which each row is an example: "array" or "image".
    """

    array: np.ndarray
    name: str = "array"

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.array)

    def __getitem__(self, row: int) -> Example:
        """The row as an example."""
        return {self.name: self.array[row]}


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some of the examples, in an order of their own.

    Attributes:
        examples: all of them.
        rows: [m] positions among them.
    """

    examples: Examples
    rows: np.ndarray

    def __len__(self) -> int:
        """The number of examples chosen."""
        return len(self.rows)

    def __getitem__(self, row: int) -> Example:
        """The example chosen at a position."""
        return self.examples[int(self.rows[row])]


@dataclasses.dataclass(frozen=True)
class Joined:
    """The examples of one source, then those of another.

    Attributes:
        first: those that come first.
        second: those after them.
    """

    first: Examples
    second: Examples

    def __len__(self) -> int:
        """The number of both."""
        return len(self.first) + len(self.second)

    def __getitem__(self, row: int) -> Example:
        """The example at a position among both."""
        before = len(self.first)
        return self.first[row] if row < before else self.second[row - before]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The examples of one split.

    Attributes:
        name: of the data set, with its task where it has several.
        version: changes when the content does.
        split: name of the split.
        ids: [n] unique strings that do not depend on the position of an example.
        labels: [n] int32 class indices; -1 where an example has no label.
        classes: k class names.
        examples: n examples, read when asked for.
        digests: [n] hash of each example's content, by which overlapping splits are found; empty
            where they are not known.
        skipped: names of the examples that could not be read and were left out.
    """

    name: str
    version: str
    split: str
    ids: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    examples: Examples
    digests: np.ndarray
    skipped: tuple[str, ...] = ()

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
    chosen = {
        "ids": dataset.ids[rows],
        "labels": dataset.labels[rows],
        "examples": Subset(dataset.examples, rows),
        "digests": dataset.digests[rows] if len(dataset.digests) else dataset.digests,
    }
    return dataclasses.replace(dataset, **(chosen | changes))


def joined(first: Dataset, second: Dataset) -> Dataset:
    """Two splits of one data set as one, the rows of the second after those of the first.

    Args:
        first: a split.
        second: another; its ids may be those of the first, where names are counted anew in each.

    Returns:
        The data set; its split is named "<first>+<second>".
    """
    known = bool(len(first.digests) and len(second.digests))
    return dataclasses.replace(
        first,
        split=f"{first.split}+{second.split}",
        ids=np.concatenate([first.ids, second.ids]),
        labels=np.concatenate([first.labels, second.labels]),
        examples=_joined_examples(first.examples, second.examples),
        digests=np.concatenate([first.digests, second.digests]) if known else first.digests[:0],
        skipped=(*first.skipped, *second.skipped),
    )


def _joined_examples(first: Examples, second: Examples) -> Examples:
    """Arrays stay one array, which is read without a loop over the rows."""
    if isinstance(first, ArrayExamples) and isinstance(second, ArrayExamples):
        return ArrayExamples(np.concatenate([first.array, second.array]), first.name)
    return Joined(first, second)
