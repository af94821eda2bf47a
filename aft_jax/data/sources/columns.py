"""Which column of a table plays which role, and what its label column may hold."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aft_jax.config import DataConfig
from aft_jax.data.templates import fields, render
from aft_jax.errors import ConfigError, DataError

SURROGATE = re.compile("[\ud800-\udfff]")
ROLES = ("image", "text", "label", "id")
FRACTION = re.compile(r"\s*[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?\s*|nan|NaN")


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns that are read.

    Attributes:
        image: column of images; None for none.
        text: field name -> column; {"text": column} without a template, {} for no text.
        label: column of labels; None where no row has one.
        id: column of ids; None to make them of the content.
        template: how the text fields become one text; "" where there is one.
    """

    image: str | None
    text: dict[str, str]
    label: str | None
    id: str | None
    template: str

    def text_of(self, row: Mapping[str, Any], name: str) -> str:
        """The text of a row.

        Args:
            row: column -> value.
            name: of the row, for messages.

        Returns:
            The text, or the template filled in.

        Raises:
            DataError: a column of it is empty or no text.
        """
        filled: dict[str, str] = {}
        for field, column in self.text.items():
            value = row[column]
            if not isinstance(value, str | int) or not _is_text(str(value)):
                raise DataError(
                    f"a text is Unicode, at least one character; {name} has {value!r} in column "
                    f'{column!r}. Fill it in, remove the row, or set config.data.on_error="skip".'
                )
            filled[field] = str(value)
        if not self.template:
            return filled["text"]
        return render(self.template, filled)


def choose_columns(config: DataConfig, available: Sequence[str], where: str) -> Columns:
    """Finds the column of every role: the one the config names, else one of the role's own name.

    Args:
        config: `columns` maps roles, and fields of the template, to columns; "" means none.
        available: the columns that there are.
        where: the file or data set, for messages.

    Returns:
        The columns.

    Raises:
        ConfigError: a role is unknown, a column is not there, or neither image nor text is.
    """
    named = fields(config.template) if config.template else ()
    unknown = sorted(set(config.columns) - {*ROLES, *named})
    if unknown:
        raise ConfigError(
            f"config.data.columns has the keys {', '.join(dict.fromkeys([*ROLES, *named]))}; "
            f"got {', '.join(unknown)}."
        )

    def column_of(role: str, needed: bool) -> str | None:
        column = config.columns.get(role, role)
        if column in available:
            return column
        if not column or not (needed or role in config.columns):
            return None
        raise ConfigError(
            f"config.data.columns names columns that {where} has: {', '.join(available)}; it has "
            f'no {column!r} for {role!r}. Set config.data.columns = {{"{role}": "<one of them>"}}'
            + (' or "" if there is none.' if role == "label" else ".")
        )

    text = {field: column_of(field, needed=True) for field in named}
    if not named:
        text = {"text": column_of("text", needed=False)}
    image = column_of("image", needed=False)
    found = {field: column for field, column in text.items() if column}
    if not image and not found:
        raise ConfigError(
            f'config.data.columns says which column is "image" or "text"; {where} has '
            f"{', '.join(available)}."
        )
    return Columns(
        image=image,
        text=found,
        label=column_of("label", needed=True),
        id=column_of("id", needed=False),
        template=config.template,
    )


def _is_text(value: str) -> bool:
    # A lone surrogate, which JSON can spell, is no character: nobody could encode it.
    return bool(value.strip()) and not SURROGATE.search(value)


def label_of(value: Any, name: str) -> str | int | None:
    """A raw label as `Records` holds it.

    Args:
        value: of the label column.
        name: of the row, for messages.

    Returns:
        A class name or number; None for no label. True and false are classes of these names.

    Raises:
        DataError: it is a fraction, or no single value.
    """
    if value is None or isinstance(value, bool):
        return value if value is None else str(value).lower()
    if isinstance(value, int) or (isinstance(value, str) and not FRACTION.fullmatch(value)):
        return value
    raise DataError(
        "a label is a class: a name or a whole number, empty or -1 for none; "
        f"{name} has {value!r}. Numbers to regress on are no classes: put them into bins, or "
        "choose another column in config.data.columns.label."
    )
