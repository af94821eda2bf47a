"""The look of every figure, and figures as files: Matplotlib's object API, no global state."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aft_jax.experiments.reporting.curves import Curve

# Okabe and Ito's palette, readable with every kind of colour blindness; grey is the baseline.
BASELINE = "#5f6368"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#202124"
FAINT = "#c4c7cb"
TEXT_SIZE = 9.5

# A page stays quick to open and to mail: a vector image beyond this is replaced by pixels.
_LARGEST_SVG = 150_000
_DOTS_PER_INCH = 180


class Look(NamedTuple):
    """How a method is drawn. No two methods share both, so colour alone decides nothing."""

    colour: str
    marker: str


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """One look for each method, the same in every figure; the first is the baseline."""
    pairs = [Look(colour, marker) for marker in MARKERS for colour in COLOURS]
    others = (pairs[index % len(pairs)] for index in range(len(methods)))
    return dict(zip(methods, (Look(BASELINE, MARKERS[0]), *others), strict=False))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, on a canvas that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes, x_label: str, y_label: str) -> None:
    """Labels, light grid, and no frame where nothing is measured."""
    axes.set_xlabel(x_label, fontsize=TEXT_SIZE, color=INK)
    axes.set_ylabel(y_label, fontsize=TEXT_SIZE, color=INK)
    axes.tick_params(labelsize=TEXT_SIZE, colors=INK, width=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.grid(True, axis="y", color=FAINT, linewidth=0.6, alpha=0.6)
    axes.set_axisbelow(True)


def whole_steps(axes: Axes) -> None:
    """Training steps as whole numbers with thousands separated."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def bands(axes: Axes, curves: Mapping[str, Curve], methods: Sequence[str], scale: float) -> None:
    """Mean over seeds as lines and one standard deviation as bands.

    Args:
        axes: where to draw.
        curves: method -> curve.
        methods: all methods of the comparison, baseline first; they fix the colours.
        scale: factor on the values, 100.0 to turn fractions into percent.
    """
    palette = looks(methods)
    for method, curve in curves.items():
        mean, std = scale * curve.mean, scale * curve.std
        colour = palette[method].colour
        # A dashed baseline stays distinct on a black-and-white print.
        line = "--" if method == methods[0] else "-"
        axes.plot(curve.steps, mean, line, color=colour, linewidth=1.8, label=method)
        axes.fill_between(
            curve.steps, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0
        )


def name_curves(axes: Axes) -> None:
    """Names every labelled line at its right end, in its colour, no two names on each other."""
    lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    low, high = axes.get_ylim()
    gap, floor = 0.075 * (high - low), -np.inf
    for line in sorted(lines, key=lambda line: np.asarray(line.get_ydata(), float)[-1]):
        x, y = (np.asarray(data, float)[-1] for data in line.get_data())
        floor = max(float(y), floor + gap)
        axes.annotate(
            str(line.get_label()),
            (x, floor),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            fontsize=TEXT_SIZE,
            fontweight="bold",
            annotation_clip=False,
        )


def panels(
    count: int,
    *,
    columns: int = 4,
    width: float = 2.6,
    height: float = 2.8,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels, in no more rows than needed and filled evenly.

    Args:
        count: how many.
        columns: at most, in a row.
        width: of a panel, in inches.
        height: of a panel, in inches.
        sharex: whether all have one horizontal scale.
        sharey: whether all have one vertical scale.

    Returns:
        The figure, and its panels row by row; places without a panel are empty.
    """
    rows = -(-count // columns)
    across = -(-count // rows)
    figure = new_figure(width=max(4.2, width * across), height=height * rows)
    grid = list(figure.subplots(rows, across, squeeze=False, sharex=sharex, sharey=sharey).flat)
    for axes in grid[count:]:
        axes.set_visible(False)
    for axes in grid[:count]:
        # Matplotlib names the steps of a shared scale in the last row only, which may be empty.
        axes.tick_params(labelbottom=True)
    return figure, grid[:count]


def leftmost(axes: Axes) -> bool:
    """Whether a panel is the first of its row, which has the label of the vertical axis."""
    place = axes.get_subplotspec()
    return place is None or place.is_first_col()


def title(axes: Axes, text: str) -> None:
    """A title above a panel."""
    axes.set_title(text, fontsize=TEXT_SIZE + 1, color=INK)


def legend(axes: Axes, *, outside: bool = False) -> None:
    """A legend without a frame, inside where there is room or to the right of the axes."""
    if outside:
        axes.legend(frameon=False, fontsize=TEXT_SIZE, loc="upper left", bbox_to_anchor=(1, 1))
    else:
        axes.legend(frameon=False, fontsize=TEXT_SIZE)


def finite(values: Sequence[float]) -> np.ndarray:
    """Values for an error bar, where the spread of a single seed (NaN) is drawn as none."""
    return np.nan_to_num(np.asarray(values, np.float64))


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    _settle(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file; equal figures give equal files."""
    _settle(figure)
    buffer = io.BytesIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": "report"}):
        figure.savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue()


def data_uri(pixels: bytes, vector: bytes) -> str:
    """A figure as a source for `<img>` that needs no second file: SVG if small, else PNG.

    An image element, not SVG markup in the page: the identifiers inside several SVG documents
    would clash in one HTML document.

    Args:
        pixels: the figure as a PNG file.
        vector: the figure as an SVG file.

    Returns:
        The source.
    """
    if len(vector) <= _LARGEST_SVG:
        return f"data:image/svg+xml;base64,{base64.b64encode(vector).decode('ascii')}"
    return f"data:image/png;base64,{base64.b64encode(pixels).decode('ascii')}"


def _settle(figure: Figure) -> None:
    """Arranges the figure once: the layout is half of the work of saving it, each time."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")
