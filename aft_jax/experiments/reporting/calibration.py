"""How far a student's confidence can be believed, and which classes it takes for others."""

import dataclasses
from typing import NamedTuple

import numpy as np

from aft_jax.types import Float, Int

BINS = 15
"""Equal bins of confidence from 0 to 1."""


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, in equal bins of confidence.

    Attributes:
        edges: [m + 1] of the bins; a bin has its upper edge, not its lower one.
        counts: [m] predictions in each bin.
        confidence: [m] their mean confidence; NaN in an empty bin.
        accuracy: [m] the share of them that is right; NaN in an empty bin.
    """

    edges: Float[np.ndarray, " m1"]
    counts: Int[np.ndarray, " m"]
    confidence: Float[np.ndarray, " m"]
    accuracy: Float[np.ndarray, " m"]

    @property
    def error(self) -> float:
        """The expected calibration error: sum over bins of (n_i / n) |accuracy_i - confidence_i|.

        NaN without predictions.
        """
        total = self.counts.sum()
        used = self.counts > 0
        gaps = np.abs(self.accuracy[used] - self.confidence[used])
        return float((self.counts[used] * gaps).sum() / total) if total else float("nan")

    @property
    def overconfidence(self) -> float:
        """Mean confidence minus accuracy; NaN without predictions."""
        total = self.counts.sum()
        used = self.counts > 0
        gaps = self.confidence[used] - self.accuracy[used]
        return float((self.counts[used] * gaps).sum() / total) if total else float("nan")


class Confusion(NamedTuple):
    """One way of being wrong: examples of class `label` that were taken for `predicted`.

    Attributes:
        label: the class.
        predicted: what it was taken for.
        examples: how many, over all runs.
        share: of all examples of the class.
    """

    label: int
    predicted: int
    examples: int
    share: float


def reliability(
    confidence: Float[np.ndarray, " n"], correct: Float[np.ndarray, " n"], bins: int = BINS
) -> Reliability:
    """Bins predictions by their confidence.

    Args:
        confidence: [n] probability of the predicted class, in [0, 1].
        correct: [n] 1 where the prediction is right, else 0.
        bins: how many.

    Returns:
        The bins.

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv 1706.04599.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    # Right-closed bins: a confidence of exactly 1 belongs to the last one.
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    sums = [
        np.bincount(places, values.astype(np.float64), minlength=bins)
        for values in (confidence, correct)
    ]
    means = [np.where(counts, total / np.maximum(counts, 1), np.nan) for total in sums]
    return Reliability(edges, counts, *means)


def confusion_matrix(
    labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "k k"]:
    """Counts of (label, prediction).

    Args:
        labels: [n] class of each example.
        predicted: [n] class it was taken for.
        classes: k.

    Returns:
        [k, k]; row i holds the examples of class i.
    """
    flat = labels.astype(np.int64) * classes + predicted
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def most_confused(matrix: Int[np.ndarray, "k k"], at_most: int) -> list[Confusion]:
    """The commonest ways of being wrong.

    Args:
        matrix: counts of (label, prediction).
        at_most: how many to return.

    Returns:
        The pairs with the most examples, most first; no pair without one.
    """
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    rows = matrix.sum(axis=1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:at_most]
    pairs = [divmod(int(place), len(matrix)) for place in order]
    return [
        Confusion(label, taken, int(wrong[label, taken]), float(wrong[label, taken] / rows[label]))
        for label, taken in pairs
        if wrong[label, taken]
    ]
