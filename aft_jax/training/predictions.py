"""What a student says of each example of a split: one small file beside its run.

No array has a class axis, so the file of 50,000 examples is a few megabytes whatever the classes.
"""

import io
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aft_jax.data import Dataset
from aft_jax.errors import UsageError
from aft_jax.files import write_whole
from aft_jax.training.step import RowPredictions


class Predictions(NamedTuple):
    """One row for each example of a split, in the order of the split.

    Attributes:
        ids: [n] text, the examples' ids.
        labels: [n] int32; -1 for an example without label.
        predicted: [n] int32, the class of the largest logit.
        confidence: [n] float32, its probability.
        label_log_probability: [n] float32, nats, of the label; NaN without one.
    """

    ids: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    label_log_probability: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        """[n] bool, the examples that count for a metric."""
        return self.labels >= 0

    @property
    def correct(self) -> np.ndarray:
        """[number of labelled examples] bool, in the order of the split."""
        return (self.predicted == self.labels)[self.labelled]


_KINDS = {"ids": "U", "labels": "i", "predicted": "i", "confidence": "f"}
_KINDS["label_log_probability"] = "f"


def join_predictions(dataset: Dataset, rows: Sequence[RowPredictions]) -> Predictions:
    """The predictions of a split from those of its batches, without their padding.

    Args:
        dataset: the split, n examples.
        rows: of each batch in turn, on the host; together n rows.

    Returns:
        The predictions.
    """
    joined = [np.concatenate(arrays) for arrays in zip(*rows, strict=True)]
    predicted, confidence, logs = joined or [np.zeros(0, np.float32)] * 3
    labels = np.asarray(dataset.labels, np.int32)
    return Predictions(
        ids=np.asarray(dataset.ids, np.str_),
        labels=labels,
        predicted=np.asarray(predicted, np.int32),
        confidence=np.asarray(confidence, np.float32),
        label_log_probability=np.where(labels >= 0, logs, np.float32(np.nan)).astype(np.float32),
    )


def predictions_file(directory: str | os.PathLike[str], split: str) -> pathlib.Path:
    """Where a run keeps its predictions of a split."""
    return pathlib.Path(directory) / f"predictions-{split}.npz"


def save_predictions(
    predictions: Predictions, directory: str | os.PathLike[str], split: str
) -> pathlib.Path:
    """Writes `predictions-<split>.npz` whole or not at all.

    Args:
        predictions: of the split.
        directory: the run's.
        split: "train", "tune" or "test".

    Returns:
        The path of the file.
    """
    content = io.BytesIO()
    np.savez_compressed(content, **predictions._asdict())
    path = predictions_file(directory, split)
    write_whole(path, content.getvalue())
    return path


def load_predictions(directory: str | os.PathLike[str], split: str) -> Predictions:
    """Reads what a run predicted of a split.

    Args:
        directory: the run's.
        split: "train", "tune" or "test".

    Returns:
        The predictions.

    Raises:
        UsageError: the file is absent or damaged; the message names the command that writes it.
    """
    path = predictions_file(directory, split)
    fix = f"`aft-jax evaluate --workdir={directory} --split={split}` writes it."
    if not path.is_file():
        raise UsageError(f"a run that was evaluated on {split} has {path}; it is missing. {fix}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            predictions = Predictions(**{name: arrays[name] for name in Predictions._fields})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is damaged: {error}. {fix}") from error
    rows = (len(predictions.ids),)
    for name, array in predictions._asdict().items():
        if array.shape != rows or array.dtype.kind != _KINDS[name]:
            raise UsageError(
                f"{path} is damaged: {name} holds one value of kind {_KINDS[name]!r} for each of "
                f"{rows[0]} examples; got {array.dtype} of shape {array.shape}. {fix}"
            )
    return predictions
