"""The section on single predictions: is the student's confidence right, and where does it err?"""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aft_jax.errors import UsageError
from aft_jax.experiments.formatting import number, percent, points, whole
from aft_jax.experiments.reporting.calibration import (
    Reliability,
    confusion_matrix,
    most_confused,
    reliability,
)
from aft_jax.experiments.reporting.captions import predictions as captions
from aft_jax.experiments.reporting.page import Column, Picture, Section, Table, figure_cell, words
from aft_jax.experiments.reporting.pages.learning import Runs
from aft_jax.experiments.reporting.plots import predictions as plots
from aft_jax.training.predictions import Predictions, load_predictions, predictions_file

TITLE = "Where the student errs"
MOST_PAIRS = 12
"""Pairs of confused classes that the page lists."""


class _Predicted(NamedTuple):
    """The labelled predictions of all seeds of one method.

    Attributes:
        runs: those of each seed.
        bins: of all of them together.
        errors: expected calibration error of each seed.
        matrix: [k, k] counts of all of them together.
    """

    runs: list[Predictions]
    bins: Reliability
    errors: list[float]
    matrix: np.ndarray

    @property
    def error(self) -> float:
        """Mean expected calibration error over the seeds."""
        return statistics.fmean(self.errors)


def prediction_section(
    runs: Runs, split: str, classes: list[str], headline: Sequence[str]
) -> Section:
    """Calibration and confusion of the students.

    Args:
        runs: by method, baseline first; methods without predictions are left out.
        split: whose predictions.
        classes: names of the classes.
        headline: the methods whose confusions are shown, at most two.

    Returns:
        The section; empty where no run left predictions.

    Raises:
        UsageError: a file of predictions is damaged, or names a class that is not there.
    """
    found = {
        name: _predicted(directories, split, len(classes))
        for name, directories in runs.items()
        if all(predictions_file(path, split).is_file() for path in directories)
    }
    if not found:
        return Section(TITLE)
    shown = {name: found[name] for name in headline if name in found}
    bins = {name: method.bins for name, method in found.items()}
    errors = {name: method.error for name, method in found.items()}
    pictures = [
        Picture(
            "reliability",
            f"Confidence against accuracy on {split}",
            captions.reliability(bins, errors),
            plots.reliability_diagrams(bins, errors),
        )
    ]
    matrices = {name: method.matrix for name, method in shown.items()}
    if matrices and len(classes) <= plots.NAMED_CLASSES:
        pictures.append(
            Picture(
                "confusion",
                f"Which class is taken for which on {split}",
                captions.confusion(matrices, classes),
                plots.confusion_matrices(matrices, classes),
            )
        )
    tables = [_calibration_table(found), *_pairs_table(matrices, classes)]
    tables += [_bins_file(bins), _confusion_file(found, classes)]
    return Section(TITLE, tables=tables, pictures=pictures)


def _predicted(directories: Sequence[pathlib.Path], split: str, classes: int) -> _Predicted:
    runs, errors = [], []
    for directory in directories:
        kept = _labelled(load_predictions(directory, split))
        found = max(kept.labels.max(initial=0), kept.predicted.max(initial=0))
        if found >= classes or min(kept.labels.min(initial=0), kept.predicted.min(initial=0)) < 0:
            raise UsageError(
                f"predictions are of the {classes} classes of the student; "
                f"{predictions_file(directory, split)} has class {found}. "
                f"`aft-jax evaluate --workdir={directory} --split={split}` rewrites it."
            )
        runs.append(kept)
        errors.append(_bins([kept]).error)
    matrix = sum(confusion_matrix(run.labels, run.predicted, classes) for run in runs)
    return _Predicted(runs, _bins(runs), errors, np.asarray(matrix))


def _labelled(predictions: Predictions) -> Predictions:
    kept = predictions.labelled
    return Predictions(*(array[kept] for array in predictions))


def _bins(runs: Sequence[Predictions]) -> Reliability:
    confidence = np.concatenate([run.confidence for run in runs]).astype(np.float64)
    correct = np.concatenate([run.predicted == run.labels for run in runs])
    return reliability(confidence, correct.astype(np.float64))


def _calibration_table(found: Mapping[str, _Predicted]) -> Table:
    columns = [
        Column("method", "method", numeric=False),
        Column("accuracy", "accuracy (%)"),
        Column("confidence", "mean confidence (%)"),
        Column("expected_calibration_error", "ECE (points)"),
        Column("overconfidence", "confidence less accuracy (points)"),
        Column("cross_entropy", "cross-entropy (nats)"),
        Column("runs", "runs"),
    ]
    rows = []
    for name, method in found.items():
        total = method.bins.counts.sum()
        sums = [method.bins.counts * np.nan_to_num(side) for side in _sides(method.bins)]
        confidence, accuracy = (float(side.sum() / total) for side in sums)
        losses = -np.concatenate([run.label_log_probability for run in method.runs])
        loss, over = float(losses.astype(np.float64).mean()), method.bins.overconfidence
        rows.append(
            [
                words(name),
                figure_cell(accuracy, percent),
                figure_cell(confidence, percent),
                figure_cell(method.error, percent),
                figure_cell(over, points),
                figure_cell(loss, "{:.3f}".format),
                figure_cell(len(method.runs), whole),
            ]
        )
    bins = len(next(iter(found.values())).bins.counts)
    note = (
        f"Expected calibration error: predictions are sorted into {bins} equal bins of confidence; "
        "ECE is the mean over bins, weighted by their predictions, of the distance between "
        "accuracy and mean confidence. It is computed for each run and averaged. 0 means that of "
        "the predictions made with confidence p a share p is right; few examples raise it by "
        "chance."
    )
    return Table("calibration", columns, rows, "Calibration", note=note)


def _sides(bins: Reliability) -> tuple[np.ndarray, np.ndarray]:
    return bins.confidence, bins.accuracy


def _pairs_table(matrices: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[Table]:
    """The pairs that the last method confuses most, with the others' counts beside."""
    if not matrices:
        return []
    judged = list(matrices)[-1]
    pairs = most_confused(matrices[judged], MOST_PAIRS)
    if not pairs:
        return []
    columns = [
        Column("label", "label", numeric=False),
        Column("predicted", "taken for", numeric=False),
        *(Column(f"share_{name}", f"{name}, of the label's examples (%)") for name in matrices),
    ]
    rows = []
    for pair in pairs:
        shares = [
            float(matrix[pair.label, pair.predicted] / max(matrix[pair.label].sum(), 1))
            for matrix in matrices.values()
        ]
        names = [words(classes[pair.label]), words(classes[pair.predicted])]
        rows.append([*names, *(figure_cell(share, percent) for share in shares)])
    return [Table("most_confused", columns, rows, f"What {judged} confuses most")]


def _bins_file(methods: Mapping[str, Reliability]) -> Table:
    columns = [Column("method", "method", numeric=False)]
    keys = ("confidence_above", "confidence_to", "predictions", "mean_confidence", "accuracy")
    rows = [
        [words(name), *(figure_cell(float(value), number) for value in row)]
        for name, bins in methods.items()
        for row in zip(bins.edges[:-1], bins.edges[1:], bins.counts, *_sides(bins), strict=True)
    ]
    return Table("reliability", [*columns, *(Column(k, k) for k in keys)], rows, shown=False)


def _confusion_file(found: Mapping[str, _Predicted], classes: list[str]) -> Table:
    keys = ("method", "label", "predicted")
    rows = [
        [
            words(name),
            words(classes[label]),
            words(classes[taken]),
            figure_cell(int(count), whole),
        ]
        for name, method in found.items()
        for (label, taken), count in np.ndenumerate(method.matrix)
        if count
    ]
    columns = [Column(key, key, numeric=False) for key in keys]
    return Table("confusion", [*columns, Column("examples", "examples")], rows, shown=False)
