"""The figure about a moving beta."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from aft_jax.experiments.formatting import number
from aft_jax.experiments.reporting.plots.drawing import (
    legend,
    looks,
    new_figure,
    style,
    whole_steps,
)

_MOST_TICKS = 8


def beta_schedules(moved: Mapping[str, tuple[int, Sequence[float]]]) -> Figure:
    """Beta over training, a line a student.

    Args:
        moved: name -> (steps for which each beta held, the betas in order).

    Returns:
        The figure, on a logarithmic scale.
    """
    figure = new_figure(width=7.2, height=3.2)
    axes = figure.subplots()
    # No student is a baseline: its look is left to a name that does not occur.
    palette = looks(["", *moved])
    for name, (interval, betas) in moved.items():
        steps = interval * np.arange(len(betas) + 1)
        axes.stairs(betas, steps, baseline=None, color=palette[name].colour, lw=1.8, label=name)
    style(axes, "training step", "beta (log scale)")
    axes.set_yscale("log")
    found = sorted({beta for _, betas in moved.values() for beta in betas})
    if len(found) <= _MOST_TICKS:
        axes.set_yticks(found, [number(beta) for beta in found])
        axes.yaxis.set_minor_locator(NullLocator())
    whole_steps(axes)
    legend(axes, outside=True)
    return figure
