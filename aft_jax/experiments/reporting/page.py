"""A page of a report: sections of words, tables and figures, whatever kind of run it is about."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

NOTHING = "\N{EN DASH}"
"""What a table shows where nothing can be said."""


class Cell(NamedTuple):
    """One entry of a table.

    Attributes:
        text: what the page shows.
        value: what the file of the table holds, with all digits; None for an empty field.
        tone: "wins", "loses" or "best", for its colour; empty for none.
    """

    text: str
    value: str | int | float | None
    tone: str = ""


class Column(NamedTuple):
    """One column of a table.

    Attributes:
        key: its name in the file, which says the unit where there is one.
        heading: its name on the page.
        numeric: whether its entries are numbers, set flush right.
    """

    key: str
    heading: str
    numeric: bool = True


class Table(NamedTuple):
    """A table of the page, and the file with the same numbers.

    Attributes:
        name: of the file, without suffix; unique on a page.
        columns: its columns; the first one names the rows.
        rows: one entry for each column.
        title: heading above it; empty where the section's heading says it.
        shown: whether it is on the page, or a file only (the numbers behind a figure).
        headed: whether the page shows the headings; a list of facts needs none.
        note: what to know for reading it.
    """

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    shown: bool = True
    headed: bool = True
    note: str = ""


class Picture(NamedTuple):
    """One figure of the page: file name without suffix, heading, caption, drawing."""

    name: str
    title: str
    caption: str
    figure: Figure


class Section(NamedTuple):
    """One part of a page, with a heading.

    Attributes:
        title: the heading.
        words: paragraphs above the tables.
        tables: in the order of the page.
        pictures: below the tables, in the order of the page.
        notes: short remarks at the end, one point each.
    """

    title: str
    words: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()


class Page(NamedTuple):
    """A whole page.

    Attributes:
        title: what was run.
        lead: the one sentence to take away.
        outcome: "wins", "loses" or "unclear": the colour of the lead.
        sections: in their order; sections without content are left out.
    """

    title: str
    lead: str
    outcome: str
    sections: Sequence[Section]


def words(text: str, tone: str = "") -> Cell:
    """A cell of words; an empty one shows a dash."""
    return Cell(text or NOTHING, text or None, tone)


def figure_cell(value: int | float | None, form: Callable[[Any], str], tone: str = "") -> Cell:
    """A cell of a number: its text on the page, all its digits in the file.

    Args:
        value: the number; None or NaN where nothing can be said.
        form: how the page shows it.
        tone: see `Cell`.

    Returns:
        The cell; a dash where there is no number.
    """
    if value is None or math.isnan(value):
        return Cell(NOTHING, None)
    return Cell(form(value), value, tone)


def filled(sections: Sequence[Section]) -> list[Section]:
    """The sections that have something to show."""
    return [part for part in sections if part.words or part.tables or part.pictures or part.notes]


def as_csv(table: Table) -> str:
    """The table as a file: keys of the columns, then all digits; a field is empty where a value is.

    Args:
        table: the table.

    Returns:
        The content of the file.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in table.columns])
    writer.writerows([["" if c.value is None else c.value for c in row] for row in table.rows])
    return text.getvalue()
