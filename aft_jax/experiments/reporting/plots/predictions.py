"""The figures about a student's predictions: is its confidence right, and where does it err."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from aft_jax.experiments.reporting.calibration import Reliability
from aft_jax.experiments.reporting.plots.drawing import (
    BASELINE,
    INK,
    TEXT_SIZE,
    leftmost,
    looks,
    panels,
    style,
    title,
)
from aft_jax.types import Int

NAMED_CLASSES = 20
"""Classes that a confusion matrix can show with their names."""


def reliability_diagrams(methods: Mapping[str, Reliability], errors: Mapping[str, float]) -> Figure:
    """Accuracy against confidence, a panel a method.

    Args:
        methods: method -> its predictions in bins of confidence; baseline first.
        errors: method -> expected calibration error, for the titles.

    Returns:
        The figure: a bar from the bin's confidence to its accuracy, the dot as large as the share
        of the predictions in the bin, the diagonal where both agree.
    """
    figure, grid = panels(len(methods), width=2.7, height=3.3, sharex=True, sharey=True)
    palette = looks(list(methods))
    for axes, (name, bins) in zip(grid, methods.items(), strict=True):
        axes.plot([0, 100], [0, 100], "--", color=BASELINE, linewidth=1.2)
        used = bins.counts > 0
        at, right = 100 * bins.confidence[used], 100 * bins.accuracy[used]
        shares = bins.counts[used] / bins.counts.sum()
        colour = palette[name].colour
        axes.vlines(at, np.minimum(at, right), np.maximum(at, right), color=colour, linewidth=1.2)
        dots = axes.scatter(at, right, 12 + 220 * shares, color=colour, zorder=3, linewidth=0)
        dots.set_clip_on(False)
        style(axes, "confidence (%)", "accuracy (%)" if leftmost(axes) else "")
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 102)
        axes.set_box_aspect(1)
        title(axes, f"{name}\nECE {100 * errors[name]:.1f} points")
    return figure


def confusion_matrices(
    matrices: Mapping[str, Int[np.ndarray, "k k"]], classes: Sequence[str]
) -> Figure:
    """Which class is taken for which, a panel a method.

    Args:
        matrices: method -> [k, k] counts, rows by label; at most `NAMED_CLASSES` classes.
        classes: k names.

    Returns:
        The figure: the wrong predictions in shades and numbers, the right ones as grey numbers.
    """
    side = 1.2 + max(2.4, 0.36 * len(classes))
    figure, grid = panels(len(matrices), columns=2, width=side, height=side)
    most = max(int(_wrong(matrix).max()) for matrix in matrices.values())
    for axes, (name, matrix) in zip(grid, matrices.items(), strict=True):
        shades = np.where(_wrong(matrix) > 0, _wrong(matrix), np.nan)
        axes.imshow(shades, cmap="Oranges", norm=LogNorm(0.7, max(most, 2)))
        _numbers(axes, matrix, most)
        axes.set_xticks(range(len(classes)), classes, rotation=90 if _long(classes) else 0)
        axes.set_yticks(range(len(classes)), classes if leftmost(axes) else [""] * len(classes))
        axes.tick_params(labelsize=TEXT_SIZE - 1, colors=INK, length=0)
        axes.set_xlabel("predicted", fontsize=TEXT_SIZE, color=INK)
        if leftmost(axes):
            axes.set_ylabel("label", fontsize=TEXT_SIZE, color=INK)
        axes.spines[:].set_visible(False)
        title(axes, name)
    return figure


def _numbers(axes: Axes, matrix: Int[np.ndarray, "k k"], most: int) -> None:
    for (label, predicted), count in np.ndenumerate(matrix):
        if count:
            right = label == predicted
            dark = not right and count > most / 3
            colour = "#8a8f94" if right else "white" if dark else INK
            size = TEXT_SIZE - (2.5 if count > 999 else 1.5)
            axes.text(
                predicted, label, f"{count}", ha="center", va="center", fontsize=size, color=colour
            )


def _wrong(matrix: Int[np.ndarray, "k k"]) -> Int[np.ndarray, "k k"]:
    return matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))


def _long(classes: Sequence[str]) -> bool:
    """Whether the names are too long to stand side by side."""
    return max(map(len, classes)) > 2
