"""The figure over many comparisons: every method's error as a share of plain fine-tuning's."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from aft_jax.experiments.reporting.plots.drawing import FAINT, INK, looks, new_figure, style


def normalised_errors(
    errors: Mapping[str, Sequence[float]], methods: Sequence[str], baseline: str
) -> Figure:
    """A row for each method: small marks for single comparisons, a large one for their mean.

    Args:
        errors: method -> normalised error of each comparison that has it.
        methods: all methods of the page, baseline first; they fix the colours.
        baseline: the method whose error is 1.

    Returns:
        The figure, in the order of the mapping from top to bottom.
    """
    figure = new_figure(width=7.2, height=1.1 + 0.42 * len(errors))
    axes = figure.subplots()
    palette = looks(methods)
    for row, (method, values) in enumerate(errors.items()):
        look = palette[method]
        axes.plot(
            values, [row] * len(values), look.marker, color=look.colour, alpha=0.35, markersize=5
        )
        mean = float(np.mean(values))
        axes.plot(mean, row, look.marker, color=look.colour, markersize=10, mec=INK, mew=1)
        axes.annotate(
            f"{mean:.3f}",
            (mean, row),
            (0, 9),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=INK,
        )
    axes.axvline(1, color=INK, linewidth=1)
    style(axes, f"test error divided by that of {baseline} (less is better)", "")
    axes.grid(False)
    axes.grid(True, axis="x", color=FAINT, linewidth=0.6, alpha=0.6)
    axes.spines["left"].set_visible(False)
    axes.set_yticks(range(len(errors)), list(errors))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(errors) - 0.4, -0.7)
    return figure
