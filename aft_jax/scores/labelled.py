"""Features with labels, checked once, as every score reads them."""

import dataclasses
from collections.abc import Iterator

import numpy as np

BLOCK_ROWS = 8192
"""Rows that are widened to float64 at once."""


@dataclasses.dataclass(frozen=True)
class Labelled:
    """The rows that have a label.

    Attributes:
        features: [n, t] float32, or float64 if they came as that.
        labels: [n] positions in `classes`.
        classes: [c] class indices that have a row, rising.
        num_classes: k, of the task.
        unlabelled: rows that were left out, their label being -1.
    """

    features: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    num_classes: int
    unlabelled: int

    @property
    def counts(self) -> np.ndarray:
        """[c] rows of each class."""
        return np.bincount(self.labels, minlength=len(self.classes))


def wide_blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    """The rows in float64, `BLOCK_ROWS` at a time."""
    for start in range(0, len(features), BLOCK_ROWS):
        yield features[start : start + BLOCK_ROWS].astype(np.float64)


def labelled(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Labelled:
    """Checks features and labels, and leaves out the rows without label.

    Args:
        features: [n, t] of any float type.
        labels: [n] integers: class indices, -1 for a row without label.
        num_classes: k.

    Returns:
        The rows with a label.

    Raises:
        ValueError: the shapes or types do not fit, a feature is NaN or infinite, a label is no
            class, or fewer than two classes have a row.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    _check_shapes(features, labels)
    if len(labels) and not -1 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"labels are class indices below num_classes={num_classes}, or -1 for none; got "
            f"{labels.min()} to {labels.max()}."
        )
    known = labels >= 0
    if not known.all():
        features, labels = features[known], labels[known]
    classes, positions = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            "a score says how well features tell classes apart: at least two classes have rows; "
            f"got {len(classes)} among {len(labels)} labelled rows."
        )
    if features.dtype != np.float64:
        features = features.astype(np.float32, copy=False)
    _check_finite(features, np.flatnonzero(known))
    unlabelled = int(np.count_nonzero(~known))
    return Labelled(features, positions, classes, num_classes, unlabelled)


def _check_shapes(features: np.ndarray, labels: np.ndarray) -> None:
    if features.ndim != 2 or labels.shape != features.shape[:1] or not features.shape[1]:
        raise ValueError(
            "features are [n, t], at least one wide, with labels [n]; got features "
            f"{features.shape} and labels {labels.shape}."
        )
    # The kind of bfloat16, which is no type of NumPy's own, is "V".
    if features.dtype.kind not in "fV" or labels.dtype.kind not in "iu":
        raise ValueError(
            "features are floating-point numbers and labels integers; got "
            f"{features.dtype} and {labels.dtype}."
        )


def _check_finite(features: np.ndarray, rows: np.ndarray) -> None:
    for start in range(0, len(features), BLOCK_ROWS):
        bad = np.flatnonzero(~np.isfinite(features[start : start + BLOCK_ROWS]).all(axis=1))
        if len(bad):
            raise ValueError(
                "features are finite; row "
                f"{rows[start + bad[0]]} holds NaN or infinity. Extract them again."
            )
