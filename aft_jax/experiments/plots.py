"""The figures of a report, each a function from measured numbers to a Matplotlib figure."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from aft_jax.experiments.curves import Curve
from aft_jax.experiments.diagnostics import Diagnostics
from aft_jax.experiments.drawing import (
    BASELINE,
    COLOURS,
    FAINT,
    INK,
    TEXT_SIZE,
    bands,
    colours,
    finite,
    legend,
    new_figure,
    style,
    whole_steps,
)
from aft_jax.experiments.formatting import number, points
from aft_jax.experiments.records import BetaTrial
from aft_jax.experiments.statistics import MethodResult, summary, tune_by_beta
from aft_jax.types import Float, Int

_PANELS_PER_ROW = 4


def intervals(results: Sequence[MethodResult]) -> Figure:
    """The paired difference of each method to the baseline with its 95 % interval, against zero.

    Args:
        results: the result table, baseline first; methods without an interval are left out.

    Returns:
        The figure.
    """
    methods = [result.method for result in results]
    shown = [(row.method, row.difference) for row in results if row.difference is not None]
    palette = colours(methods)
    figure = new_figure(width=7.2, height=1.1 + 0.42 * len(shown))
    axes = figure.subplots()
    for row, (method, difference) in enumerate(shown):
        colour = palette[method]
        axes.plot(
            [100 * difference.low, 100 * difference.high], [row, row], color=colour, linewidth=3
        )
        axes.plot(100 * difference.mean, row, "o", color=colour, markersize=8)
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
    rows, columns = _grid(len(treatments))
    figure = new_figure(width=max(4.2, 2.6 * columns), height=3.6 * rows)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, method in zip(grid.flat, treatments, strict=False):
        _pairs(axes, scores[baseline], scores[method])
        style(axes, "", f"test {metric} (%)" if axes in grid[:, 0] else "")
        axes.set_xticks([0, 1], [baseline, method])
        axes.set_xlim(-0.25, 1.25)
    for axes in list(grid.flat)[len(treatments) :]:
        axes.set_visible(False)
    return figure


def learning_curves(
    tune: Mapping[str, Curve], regularizer: Mapping[str, Curve], methods: Sequence[str], metric: str
) -> Figure:
    """The metric on tune over training, and the training regularizer in a second panel.

    Args:
        tune: method -> curve of the metric, fractions.
        regularizer: method -> curve of the regularizer before beta; the panel is left out where
            there is none.
        methods: all methods of the comparison, baseline first; they fix the colours.
        metric: name of the metric, for the axis.

    Returns:
        The figure: mean over seeds as a line, one standard deviation as a band.
    """
    panels = 2 if regularizer else 1
    figure = new_figure(width=4.8 * panels, height=3.4)
    figure.set_layout_engine("constrained", wspace=0.06)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    bands(axes[0], tune, methods, scale=100.0)
    style(axes[0], "training step", f"tune {metric} (%)")
    whole_steps(axes[0])
    legend(axes[0])
    if regularizer:
        bands(axes[1], regularizer, methods, scale=1.0)
        style(axes[1], "training step", "training regularizer (before beta)")
        whole_steps(axes[1])
        axes[1].set_ylim(bottom=0)
        legend(axes[1])
    return figure


def beta_curve(
    search: Sequence[BetaTrial],
    chosen: Mapping[str, float],
    level: float | None,
    methods: Sequence[str],
    metric: str,
) -> Figure:
    """The metric on tune against beta, with the chosen beta marked.

    Args:
        search: the runs of the search.
        chosen: method -> chosen beta.
        level: mean tune metric of the baseline, for a horizontal line; None for no line.
        methods: all methods of the comparison, baseline first; they fix the colours.
        metric: name of the metric, for the axis.

    Returns:
        The figure: a dot for each run, mean and one standard deviation over seeds.
    """
    figure = new_figure(width=7.2, height=3.6)
    axes = figure.subplots()
    palette = colours(methods)
    positive = [trial for trial in search if trial.beta > 0]
    searched = list(dict.fromkeys(trial.method for trial in positive))
    for index, method in enumerate(searched):
        runs = [trial for trial in positive if trial.method == method]
        # A few percent aside, the bars of several methods at one beta stay apart.
        shift = 1.04 ** (index - (len(searched) - 1) / 2)
        _beta_line(axes, runs, chosen.get(method), palette.get(method, INK), shift)
    if level is not None:
        label = f"{methods[0]}, mean"
        axes.axhline(100 * level, color=BASELINE, linestyle="--", linewidth=1.5, label=label)
    style(axes, "beta, the weight of the regularizer (log scale)", f"tune {metric} (%)")
    axes.set_xscale("log")
    betas = sorted({trial.beta for trial in positive})
    axes.set_xticks(betas, [number(beta) for beta in betas])
    axes.xaxis.set_minor_locator(NullLocator())
    legend(axes, outside=True)
    return figure


def gate_histograms(gates: Mapping[str, Float[np.ndarray, " _"]]) -> Figure:
    """How the learned gates of each teacher spread around their start value 1/2.

    Args:
        gates: teacher -> [t] gates, in (0, 1).

    Returns:
        The figure, one panel a teacher, on one horizontal scale.
    """
    rows, columns = _grid(len(gates))
    figure = new_figure(width=7.2 if columns == 1 else 3.6 * columns, height=2.8 * rows)
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    reach = max(float(np.abs(values - 0.5).max()) for values in gates.values())
    # An even number of bins puts an edge on 1/2: gates that rose and that fell never share a bin.
    edges = np.linspace(-1, 1, 41) * min(0.5, max(1.05 * reach, 0.01)) + 0.5
    for axes, (teacher, values) in zip(grid.flat, gates.items(), strict=False):
        axes.hist(values, edges, color=COLOURS[0], edgecolor="white", linewidth=0.5)
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
        style(axes, "gate", "teacher features")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.set_title(teacher, fontsize=TEXT_SIZE + 1, color=INK)
    for axes in list(grid.flat)[len(gates) :]:
        axes.set_visible(False)
    return figure


def kernel_images(diagnostics: Diagnostics) -> Figure:
    """The kernels of teacher and students side by side on one colour scale.

    Args:
        diagnostics: kernels over the same examples, sorted by class, and their labels.

    Returns:
        The figure: class boundaries ticked, the distance R to the teacher in each title.
    """
    kernels, distances = diagnostics.kernels, diagnostics.distances
    names = sorted(kernels, key=lambda name: name != "teacher")
    figure = new_figure(width=2.9 * len(names) + 0.7, height=3.5)
    grid = figure.subplots(1, len(names), squeeze=False)[0]
    images = [
        axes.imshow(kernels[name], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        for axes, name in zip(grid, names, strict=True)
    ]
    for axes, name in zip(grid, names, strict=True):
        _class_ticks(axes, diagnostics.labels)
        title = f"student, {name}\nR = {distances[name]:.3f}" if name in distances else name
        axes.set_title(title, fontsize=TEXT_SIZE + 1, color=INK)
    grid[0].set_ylabel("class of the example", fontsize=TEXT_SIZE, color=INK)
    bar = figure.colorbar(images[0], ax=list(grid), shrink=0.8, ticks=[-1, 0, 1])
    bar.set_label("cosine similarity", fontsize=TEXT_SIZE, color=INK)
    bar.ax.tick_params(labelsize=TEXT_SIZE)
    bar.outline.set_visible(False)
    return figure


def _grid(panels: int) -> tuple[int, int]:
    """Rows and columns for this many panels: no more rows than needed, filled evenly."""
    rows = -(-panels // _PANELS_PER_ROW)
    return rows, -(-panels // rows)


def _pairs(axes: Axes, baseline: Mapping[int, float], treatment: Mapping[int, float]) -> None:
    up, down, *_ = COLOURS
    for seed in sorted(baseline):
        pair = [100 * baseline[seed], 100 * treatment[seed]]
        colour = up if pair[1] > pair[0] else down if pair[1] < pair[0] else BASELINE
        axes.plot(
            [0, 1],
            pair,
            "-o",
            color=colour,
            alpha=0.55,
            linewidth=1.2,
            markersize=4,
        )
    means = [100 * summary(list(side.values())).mean for side in (baseline, treatment)]
    axes.plot([0, 1], means, color=INK, linewidth=3)
    axes.set_title(
        f"mean {points((means[1] - means[0]) / 100)} points", fontsize=TEXT_SIZE + 1, color=INK
    )


def _beta_line(
    axes: Axes, runs: Sequence[BetaTrial], chosen: float | None, colour: str, shift: float
) -> None:
    rows = tune_by_beta(runs, runs[0].method)
    mean = {beta: 100 * row.mean for beta, row in rows.items()}
    spread = 100 * finite([row.std for row in rows.values()])
    betas, scores = [shift * trial.beta for trial in runs], [100 * trial.tune for trial in runs]
    axes.plot(betas, scores, "o", color=colour, alpha=0.3, markersize=4, markeredgewidth=0)
    line = axes.errorbar(
        [shift * beta for beta in mean], list(mean.values()), spread, color=colour, marker="o"
    )
    line.set_label(runs[0].method)
    if chosen in mean:
        axes.plot(shift * chosen, mean[chosen], "o", ms=15, mfc="none", mec=colour, mew=1.8)


def _class_ticks(axes: Axes, labels: Int[np.ndarray, " b"]) -> None:
    """Ticks at the class boundaries and, while they fit, the class numbers between them."""
    boundaries = np.flatnonzero(np.diff(labels)) + 1
    edges = np.array([0, *boundaries, len(labels)]) - 0.5
    named = len(edges) <= 21
    centres = (edges[:-1] + edges[1:]) / 2 if named else []
    names = [str(labels[round(centre)]) for centre in centres]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(edges, minor=True)
        axis.set_ticks(centres, names)
    axes.tick_params(which="major", length=0, labelsize=TEXT_SIZE - 2, colors=INK)
    axes.tick_params(which="minor", length=4, width=0.8, color=INK)
