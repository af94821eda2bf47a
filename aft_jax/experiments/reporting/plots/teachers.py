"""The figures about what teachers gave: gates, kernels, and each teacher's part in them."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aft_jax.experiments.reporting.diagnostics import Diagnostics
from aft_jax.experiments.reporting.plots.drawing import (
    COLOURS,
    FAINT,
    INK,
    TEXT_SIZE,
    leftmost,
    new_figure,
    panels,
    style,
    title,
)
from aft_jax.types import Float, Int

_NAMED_CLASSES = 20
"""Classes whose numbers fit beside a kernel."""


def gate_histograms(gates: Mapping[str, Float[np.ndarray, " _"]]) -> Figure:
    """How the learned gates of each teacher spread around their start value 1/2.

    Args:
        gates: teacher -> [t] gates, in (0, 1).

    Returns:
        The figure, one panel a teacher, on one horizontal scale.
    """
    width = 7.2 if len(gates) == 1 else 3.6
    figure, grid = panels(len(gates), columns=3, width=width, height=2.8, sharex=True)
    reach = max(float(np.abs(values - 0.5).max()) for values in gates.values())
    # An even number of bins puts an edge on 1/2: gates that rose and that fell never share a bin.
    edges = np.linspace(-1, 1, 41) * min(0.5, max(1.05 * reach, 0.01)) + 0.5
    for axes, (teacher, values) in zip(grid, gates.items(), strict=True):
        axes.hist(values, edges.tolist(), color=COLOURS[0], edgecolor="white", linewidth=0.5)
        axes.margins(y=0.15)
        axes.axvline(0.5, color=INK, linestyle="--", linewidth=1.2)
        axes.annotate(
            "start",
            (0.5, 1),
            (4, -2),
            xycoords=("data", "axes fraction"),
            va="top",
            textcoords="offset points",
            fontsize=TEXT_SIZE,
            color=INK,
        )
        style(axes, "gate", "teacher features" if leftmost(axes) else "")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        title(axes, teacher)
    return figure


def teacher_parts(shares: Mapping[str, float], moves: Mapping[str, float]) -> Figure:
    """Each teacher's share of the kernel, and how far the kernel moves when it is left out.

    Args:
        shares: teacher -> share of the teachers' kernel; the panel is left out where there is none.
        moves: teacher -> R between the kernel of all teachers and that of the others.

    Returns:
        The figure: bars, with their numbers at their ends.
    """
    shown = [
        ("share of the teachers' kernel (%)", {k: 100 * v for k, v in shares.items()}, "{:.1f}"),
        ("R to the kernel without the teacher", moves, "{:.3f}"),
    ]
    shown = [panel for panel in shown if panel[1]]
    figure = new_figure(width=4.2 * len(shown) + 1.0, height=1.1 + 0.42 * len(moves))
    grid = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    for axes, (label, values, form) in zip(grid, shown, strict=True):
        _bars(axes, label, values, form)
    return figure


def kernel_images(diagnostics: Diagnostics) -> Figure:
    """The kernels of teacher and students side by side on one colour scale.

    Args:
        diagnostics: kernels over the same examples, sorted by class, and their labels.

    Returns:
        The figure: class boundaries ticked, the distance R to the teacher in each title.
    """
    kernels, distances = diagnostics.kernels, diagnostics.distances
    names = [name for name in kernels if name == "teacher"] + diagnostics.students
    figure, grid = panels(len(names), width=2.6, height=3.1)
    figure.set_figwidth(figure.get_figwidth() + 0.7)
    images = [
        axes.imshow(kernels[name], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        for axes, name in zip(grid, names, strict=True)
    ]
    for axes, name in zip(grid, names, strict=True):
        _class_ticks(axes, diagnostics.labels)
        heading = {"teacher": "teachers", "start": "student before"}.get(name, f"student, {name}")
        title(axes, f"{heading}\nR = {distances[name]:.3f}" if name in distances else heading)
        if leftmost(axes):
            axes.set_ylabel("class of the example", fontsize=TEXT_SIZE, color=INK)
    bar = figure.colorbar(images[0], ax=grid, shrink=0.8, ticks=[-1, 0, 1])
    bar.set_label("cosine similarity", fontsize=TEXT_SIZE, color=INK)
    bar.ax.tick_params(labelsize=TEXT_SIZE)
    bar.outline.set_visible(False)
    return figure


def _bars(axes: Axes, label: str, values: Mapping[str, float], form: str) -> None:
    bars = axes.barh(list(values), list(values.values()), color=COLOURS[0], height=0.6)
    texts = [form.format(value) for value in values.values()]
    axes.bar_label(bars, texts, padding=4, fontsize=TEXT_SIZE, color=INK)
    style(axes, label, "")
    axes.grid(False)
    axes.grid(True, axis="x", color=FAINT, linewidth=0.6, alpha=0.6)
    axes.margins(x=0.18)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _class_ticks(axes: Axes, labels: Int[np.ndarray, " b"]) -> None:
    """Ticks at the class boundaries and, while they fit, the class numbers between them."""
    boundaries = np.flatnonzero(np.diff(labels)) + 1
    edges = np.array([0, *boundaries, len(labels)]) - 0.5
    named = len(edges) <= _NAMED_CLASSES + 1
    centres = (edges[:-1] + edges[1:]) / 2 if named else []
    names = [str(labels[round(centre)]) for centre in centres]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(edges, minor=True)
        axis.set_ticks(centres, names)
    axes.tick_params(which="major", length=0, labelsize=TEXT_SIZE - 2, colors=INK)
    axes.tick_params(which="minor", length=4, width=0.8, color=INK)
