"""The `report` verb: one HTML page about a run or many, with its tables and figures as files."""

import os
import pathlib
from collections.abc import Sequence

import jinja2

from aft_jax.experiments.reporting.page import Page, as_csv
from aft_jax.experiments.reporting.pages.comparison import comparison_page
from aft_jax.experiments.reporting.pages.kinds import COMPARISON, RUN, kind_of
from aft_jax.experiments.reporting.pages.many import many_page
from aft_jax.experiments.reporting.pages.sweep import sweep_page
from aft_jax.experiments.reporting.pages.training_run import run_page
from aft_jax.experiments.reporting.plots import drawing
from aft_jax.files import made_workdir, write_whole


def report(
    workdir: str | os.PathLike[str], runs: Sequence[str | os.PathLike[str]] = ()
) -> pathlib.Path:
    """Writes `report/index.html`, `report/*.csv` and `report/figures/*.png` and `*.svg`.

    The page needs no network, no script and no second file. What the directories do not hold
    (diagnostics, predictions, a run's metrics) is left out of it.

    Args:
        workdir: directory of a comparison, a sweep or a training run; or, with `runs`, the
            directory to write into.
        runs: several such directories, to be shown together.

    Returns:
        The path of the page.

    Raises:
        UsageError: a directory holds nothing that is finished, a file is missing or malformed, or
            the methods of a comparison were run with different seeds.
    """
    workdir = pathlib.Path(workdir)
    page = many_page([pathlib.Path(run) for run in runs]) if runs else _page(workdir)
    with made_workdir(workdir / "report" / "figures"):
        return write_page(page, workdir / "report")


def write_page(page: Page, directory: pathlib.Path) -> pathlib.Path:
    """Writes a page, its tables and its figures.

    Args:
        page: the page.
        directory: where; holds a directory `figures`.

    Returns:
        The path of `index.html`.
    """
    sources = {}
    for section in page.sections:
        for table in section.tables:
            write_whole(directory / f"{table.name}.csv", as_csv(table))
        for picture in section.pictures:
            pixels, vector = drawing.png(picture.figure), drawing.svg(picture.figure)
            write_whole(directory / "figures" / f"{picture.name}.png", pixels)
            write_whole(directory / "figures" / f"{picture.name}.svg", vector)
            sources[picture.name] = drawing.data_uri(pixels, vector)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A percent sign stays on the line of its number.
    environment.filters["prose"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    template = environment.get_template("report.html.j2")
    write_whole(directory / "index.html", template.render(page=page, sources=sources))
    return directory / "index.html"


def _page(workdir: pathlib.Path) -> Page:
    kind = kind_of(workdir)
    if kind == COMPARISON:
        return comparison_page(workdir)
    return run_page(workdir) if kind == RUN else sweep_page(workdir)
