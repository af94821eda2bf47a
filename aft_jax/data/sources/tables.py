"""Tables of texts, of paths to images, or of both: CSV, JSON lines and Parquet."""

import dataclasses
from collections.abc import Callable
from typing import Any

from aft_jax.config import DataConfig
from aft_jax.data.records import Records
from aft_jax.data.sources.columns import Columns, choose_columns, label_of
from aft_jax.data.sources.raw_examples import Raw, collect
from aft_jax.data.sources.storage import location, read
from aft_jax.data.sources.table_files import Row, Table, read_csv, read_jsonl, read_parquet
from aft_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class TableRows:
    """Rows of a table, their image files read when asked for.

    Attributes:
        rows: n rows.
        columns: which columns are read.
        folder: of the table's file, that paths to images start from.
    """

    rows: tuple[Row, ...]
    columns: Columns
    folder: Any

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def raw(self, row: int) -> Raw:
        """The text and the undecoded image of a row."""
        name, values = self.rows[row]
        if isinstance(values, DataError):
            raise values
        found: dict[str, bytes | str] = {}
        if self.columns.image:
            found["image"] = self._image(values[self.columns.image], name)
        if self.columns.text:
            found["text"] = self.columns.text_of(values, name)
        return found

    def _image(self, value: Any, name: str) -> bytes:
        if isinstance(value, dict):  # how Hugging Face writes images into Parquet
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str) or not value:
            raise DataError(
                f"column {self.columns.image!r} holds paths to images, relative to the table's "
                f"folder, or their bytes; {name} has {value!r}."
            )
        try:
            return read(self.folder / value)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error

    def name(self, row: int) -> str:
        """File and line, and the image's path where there is one."""
        name, values = self.rows[row]
        if isinstance(values, DataError) or not self.columns.image:
            return name
        image = values[self.columns.image]
        return f"{name} ({self.folder / image})" if isinstance(image, str) else name


def load_csv(config: DataConfig, split: str) -> Records:
    """Rows of `path`/`split`.csv, or of the file that a pattern with "{split}" gives.

    Args:
        config: `path`, `columns`, `template` and `on_error`.
        split: name of the split.

    Returns:
        Examples {"text"}, {"image"} or both.

    Raises:
        ConfigError: a column is missing.
        DataError: the file or a row cannot be read; the message names file and line.
    """
    return _load(config, split, "csv", read_csv)


def load_jsonl(config: DataConfig, split: str) -> Records:
    """Lines of `path`/`split`.jsonl; all else as `load_csv`."""
    return _load(config, split, "jsonl", read_jsonl)


def load_parquet(config: DataConfig, split: str) -> Records:
    """Rows of `path`/`split`.parquet; all else as `load_csv`. Images may also be bytes in it."""
    return _load(config, split, "parquet", read_parquet)


def _load(
    config: DataConfig, split: str, ending: str, parse: Callable[[bytes, str], Table]
) -> Records:
    pattern = config.path if "{split}" in config.path else f"{config.path}/{{split}}.{ending}"
    path = location(pattern.replace("{split}", split))
    table = parse(read(path), str(path))
    columns = choose_columns(config, table.columns, str(path))
    labels, ids = [], []
    for name, values in table.rows:
        fine = not isinstance(values, DataError)
        labels.append(label_of(values[columns.label], name) if fine and columns.label else None)
        ids.append(str(values[columns.id]) if fine and columns.id else "")
    rows = TableRows(table.rows, columns, path.parent)
    return collect(rows, labels, config.on_error, ids=ids if columns.id else None)
