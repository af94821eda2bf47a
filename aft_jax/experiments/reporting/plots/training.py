"""The figures about whole runs, each a function from measured numbers to a Matplotlib figure."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from aft_jax.experiments.formatting import number, points
from aft_jax.experiments.reporting.curves import Curve
from aft_jax.experiments.reporting.plots.drawing import (
    BASELINE,
    COLOURS,
    FAINT,
    INK,
    Look,
    bands,
    finite,
    leftmost,
    legend,
    looks,
    name_curves,
    new_figure,
    panels,
    style,
    title,
    whole_steps,
)
from aft_jax.experiments.statistics.results import MethodResult, Summary, summary

MOST_LINES = 4
"""Lines that one panel can hold; more of them get a panel each."""


def intervals(results: Sequence[MethodResult]) -> Figure:
    """The paired difference of each method to the baseline with its 95 % interval, against zero.

    Args:
        results: the result table, baseline first; methods without an interval are left out.

    Returns:
        The figure.
    """
    methods = [result.method for result in results]
    shown = [(row.method, row.difference) for row in results if row.difference is not None]
    palette = looks(methods)
    figure = new_figure(width=7.2, height=1.1 + 0.42 * len(shown))
    axes = figure.subplots()
    for row, (method, difference) in enumerate(shown):
        bounds, (colour, marker) = [100 * difference.low, 100 * difference.high], palette[method]
        axes.plot(bounds, [row, row], color=colour, linewidth=3)
        axes.plot(100 * difference.mean, row, marker, color=colour, markersize=8)
    axes.axvline(0, color=INK, linewidth=1)
    style(axes, f"points of difference to {methods[0]} on test (mean and 95 % interval)", "")
    axes.grid(False)
    axes.grid(True, axis="x", color=FAINT, linewidth=0.6, alpha=0.6)
    axes.spines["left"].set_visible(False)
    axes.set_yticks(range(len(shown)), [method for method, _ in shown])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    return figure


def paired_seeds(scores: Mapping[str, Mapping[int, float]], metric: str) -> Figure:
    """The test result of each seed, a line from the baseline to the method, a panel a method.

    Args:
        scores: method -> seed -> metric on test, a fraction; baseline first.
        metric: name of the metric, for the axis.

    Returns:
        The figure: thin lines for seeds (blue up, orange down, grey equal), a thick one for the
        mean.
    """
    baseline, *treatments = scores
    figure, grid = panels(len(treatments), height=3.6, sharey=True)
    for axes, method in zip(grid, treatments, strict=True):
        _pairs(axes, scores[baseline], scores[method])
        style(axes, "", f"test {metric} (%)" if leftmost(axes) else "")
        axes.set_xticks([0, 1], [baseline, method])
        axes.set_xlim(-0.25, 1.25)
    return figure


def learning_curves(
    tune: Mapping[str, Curve], regularizer: Mapping[str, Curve], methods: Sequence[str], metric: str
) -> Figure:
    """The metric on tune over training, and the training regularizer in a second panel.

    Args:
        tune: name -> curve of the metric, fractions; at most `MOST_LINES`.
        regularizer: name -> curve of the regularizer before beta; the panel is left out where
            there is none.
        methods: all names of the page, baseline first; they fix the colours.
        metric: name of the metric, for the axis.

    Returns:
        The figure: mean over seeds as a line, one standard deviation as a band.
    """
    shown = 2 if regularizer else 1
    figure = new_figure(width=4.8 * shown if shown > 1 else 6.4, height=3.4)
    figure.set_layout_engine("constrained", wspace=0.06)
    axes = figure.subplots(1, shown, squeeze=False)[0]
    bands(axes[0], tune, methods, scale=100.0)
    style(axes[0], "training step", f"tune {metric} (%)")
    whole_steps(axes[0])
    name_curves(axes[0])
    if regularizer:
        bands(axes[1], regularizer, methods, scale=1.0)
        style(axes[1], "training step", "training regularizer (before beta)")
        whole_steps(axes[1])
        axes[1].set_ylim(bottom=0)
        name_curves(axes[1])
    return figure


def learning_panels(tune: Mapping[str, Curve], methods: Sequence[str], metric: str) -> Figure:
    """The metric on tune over training for many methods: a panel each, beside the baseline.

    Args:
        tune: name -> curve of the metric, fractions.
        methods: all names of the page, baseline first; they fix the colours.
        metric: name of the metric, for the axis.

    Returns:
        The figure; the baseline is the dashed grey line of every panel.
    """
    baseline = {name: curve for name, curve in tune.items() if name == methods[0]}
    others = [name for name in tune if name not in baseline]
    figure, grid = panels(len(others), width=2.5, height=2.3, sharex=True, sharey=True)
    for axes, name in zip(grid, others, strict=True):
        bands(axes, baseline | {name: tune[name]}, methods, scale=100.0)
        style(axes, "training step", f"tune {metric} (%)" if leftmost(axes) else "")
        title(axes, name)
        whole_steps(axes)
    return figure


def beta_curve(
    search: Mapping[str, Mapping[float, Summary]],
    runs: Mapping[str, Sequence[tuple[float, float]]],
    chosen: Mapping[str, float],
    level: float | None,
    methods: Sequence[str],
    metric: str,
) -> Figure:
    """The metric on tune against beta, with the chosen beta marked.

    Args:
        search: method -> beta -> metric on tune over seeds; betas above zero.
        runs: method -> (beta, metric on tune) of each run.
        chosen: method -> chosen beta.
        level: mean tune metric of the baseline, for a horizontal line; None for no line.
        methods: all methods of the page, baseline first; they fix the colours.
        metric: name of the metric, for the axis.

    Returns:
        The figure: a dot for each run, mean and one standard deviation over seeds; one panel for
        few methods, a panel each for many.
    """
    together = len(search) <= MOST_LINES
    if together:
        figure = new_figure(width=7.2, height=3.6)
        grid = [figure.subplots()] * len(search)
    else:
        figure, grid = panels(len(search), width=2.5, height=2.4, sharex=True, sharey=True)
    palette, ink = looks(methods), Look(INK, "o")
    betas = sorted({beta for rows in search.values() for beta in rows})
    for index, (axes, method) in enumerate(zip(grid, search, strict=True)):
        # A few percent aside, the bars of several methods at one beta stay apart.
        shift = 1.04 ** (index - (len(search) - 1) / 2) if together else 1.0
        look = palette.get(method, ink)
        _beta_line(axes, search[method], runs[method], chosen.get(method), look, shift)
        axes.lines[-1].set_label(method)
        if not together:
            title(axes, method)
    for axes in dict.fromkeys(grid):
        if level is not None:
            axes.axhline(100 * level, color=BASELINE, linestyle="--", lw=1.5, label=methods[0])
        style(axes, "beta (log scale)", f"tune {metric} (%)" if leftmost(axes) else "")
        _beta_ticks(axes, betas)
    if together:
        legend(grid[0], outside=True)
    return figure


def _beta_ticks(axes: Axes, betas: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(betas, [number(beta) for beta in betas])
    axes.xaxis.set_minor_locator(NullLocator())


def _pairs(axes: Axes, baseline: Mapping[int, float], treatment: Mapping[int, float]) -> None:
    up, down, *_ = COLOURS
    for seed in sorted(baseline):
        pair = [100 * baseline[seed], 100 * treatment[seed]]
        colour = up if pair[1] > pair[0] else down if pair[1] < pair[0] else BASELINE
        axes.plot([0, 1], pair, "-o", color=colour, alpha=0.55, linewidth=1.2, markersize=4)
    means = [100 * summary(list(side.values())).mean for side in (baseline, treatment)]
    axes.plot([0, 1], means, color=INK, linewidth=3)
    title(axes, f"mean {points((means[1] - means[0]) / 100)} points")


def _beta_line(
    axes: Axes,
    rows: Mapping[float, Summary],
    runs: Sequence[tuple[float, float]],
    chosen: float | None,
    look: Look,
    shift: float,
) -> None:
    betas = shift * np.array(list(rows))
    mean = 100 * np.array([row.mean for row in rows.values()])
    spread = 100 * finite([row.std for row in rows.values()])
    axes.plot(
        *zip(*((shift * beta, 100 * tune) for beta, tune in runs), strict=True),
        look.marker,
        color=look.colour,
        alpha=0.3,
        markersize=4,
        markeredgewidth=0,
    )
    axes.errorbar(betas, mean, spread, color=look.colour, linewidth=0, elinewidth=1.5)
    if chosen is not None and chosen in rows:
        axes.plot(
            shift * chosen,
            100 * rows[chosen].mean,
            "o",
            ms=15,
            mfc="none",
            mec=look.colour,
            mew=1.8,
        )
    axes.plot(betas, mean, "-" + look.marker, color=look.colour)
