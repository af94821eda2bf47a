"""CSV, JSON lines and Parquet as rows with line numbers; a bad row is kept as its error."""

import csv
import io
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from aft_jax.errors import ConfigError, DataError

STRAY_BYTE = re.compile("[\udc80-\udcff]")
"""How bytes that are not UTF-8 come through decoding with surrogateescape."""


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        name: file and line, for messages.
        values: column -> value, or why the row cannot be read.
    """

    name: str
    values: Mapping[str, Any] | DataError


class Table(NamedTuple):
    """A table in host memory.

    Attributes:
        columns: their names.
        rows: in the order of the file.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_csv(data: bytes, path: str) -> Table:
    """Comma-separated values in UTF-8 whose first line names the columns.

    Args:
        data: content of the file.
        path: of the file, for messages.

    Returns:
        The table; blank lines are no rows.

    Raises:
        DataError: there is no header, a column is named twice, or quotes are left open.
    """
    # Bytes that are not UTF-8 come through as lone surrogates, so that they are found by row.
    text = data.decode("utf-8-sig", errors="surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        header = next(reader, [])
        if not header or len(set(header)) < len(header):
            raise DataError(
                f"the first line of a CSV file names its columns, each once; {path} has "
                f"{', '.join(header) or 'none'}."
            )
        start = reader.line_num + 1
        for cells in reader:
            if cells:
                name = f"{path} line {start}"
                rows.append(Row(name, _csv_values(header, cells, name)))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"a CSV file has commas between fields and quotes in pairs; {path} line "
            f"{reader.line_num}: {error}. Correct it, or write the table as JSON lines or Parquet."
        ) from error
    _require_utf8("".join(header), f"{path} line 1")
    return Table(tuple(header), tuple(rows))


def _csv_values(header: list[str], cells: list[str], name: str) -> dict[str, str] | DataError:
    if len(cells) != len(header):
        return DataError(
            f"every row of a CSV file has a field per column ({len(header)}); {name} has "
            f"{len(cells)}. Quote fields that hold commas, or correct the row."
        )
    try:
        _require_utf8("".join(cells), name)
    except DataError as error:
        return error
    return dict(zip(header, cells, strict=True))


def read_jsonl(data: bytes, path: str) -> Table:
    """One JSON object a line, in UTF-8. A column is a key that any line has.

    Args:
        data: content of the file.
        path: of the file, for messages.

    Returns:
        The table; blank lines are no rows, and a key that a line lacks is null.
    """
    rows, columns = [], {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            name = f"{path} line {number}"
            values = _json_values(line, name)
            rows.append(Row(name, values))
            if not isinstance(values, DataError):
                columns |= dict.fromkeys(values)
    filled = [
        row
        if isinstance(row.values, DataError)
        else Row(row.name, dict.fromkeys(columns) | dict(row.values))
        for row in rows
    ]
    return Table(tuple(columns), tuple(filled))


def _json_values(line: bytes, name: str) -> dict[str, Any] | DataError:
    try:
        text = line.decode("utf-8", errors="surrogateescape")
        _require_utf8(text, name)
        values = json.loads(text)
    except DataError as error:
        return error
    except ValueError as error:
        return DataError(f"a line of JSON lines is one JSON object; {name}: {error}.")
    if isinstance(values, dict):
        return values
    return DataError(f"a line of JSON lines is one JSON object; {name} is {values!r}.")


def read_parquet(data: bytes, path: str) -> Table:
    """A Parquet file.

    Args:
        data: content of the file.
        path: of the file, for messages.

    Returns:
        The table.

    Raises:
        ConfigError: pyarrow is not installed.
        DataError: this is no Parquet file.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(
            "Parquet files are read through pyarrow; install pip install 'aft_jax[data]'."
        ) from error
    try:
        table = parquet.read_table(pyarrow.BufferReader(data))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"a table ending in .parquet is a Parquet file; {path}: {error}."
        ) from error
    rows = (Row(f"{path} row {i}", values) for i, values in enumerate(table.to_pylist()))
    return Table(tuple(table.column_names), tuple(rows))


def _require_utf8(text: str, name: str) -> None:
    wrong = STRAY_BYTE.search(text)
    if wrong:
        byte = ord(wrong.group()) - 0xDC00
        raise DataError(
            f"a table is text in UTF-8; {name} has the byte 0x{byte:02X}, which is none. Convert "
            "the file (iconv -f latin1 -t utf-8, if that is what it is)."
        )
