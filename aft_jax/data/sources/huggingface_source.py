"""Data sets of the Hugging Face hub, or saved by `datasets` to a directory."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from aft_jax.config import DataConfig
from aft_jax.data.records import Records
from aft_jax.data.sources.columns import Columns, choose_columns, label_of
from aft_jax.data.sources.raw_examples import Raw, collect
from aft_jax.data.sources.storage import location, read
from aft_jax.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class ArrowRows:
    """Rows of an Arrow table that is mapped into memory.

    Attributes:
        table: column -> its `pyarrow.ChunkedArray`. Read from these, a row comes in a tenth of the
            time that `datasets` takes, and images are not decoded.
        rows: n.
        columns: which columns are read.
        where: data set and split, for messages.
    """

    table: Mapping[str, Any]
    rows: int
    columns: Columns
    where: str

    def __len__(self) -> int:
        """The number of rows."""
        return self.rows

    def raw(self, row: int) -> Raw:
        """The text and the undecoded image of a row."""
        values = {name: column[row].as_py() for name, column in self.table.items()}
        found: dict[str, bytes | str] = {}
        if self.columns.image:
            found["image"] = self._image(values[self.columns.image] or {}, row)
        if self.columns.text:
            found["text"] = self.columns.text_of(values, self.name(row))
        return found

    def _image(self, value: dict[str, Any], row: int) -> bytes:
        if value.get("bytes"):
            return value["bytes"]
        if not value.get("path"):
            raise DataError(
                f"an image is there as bytes or as a path; {self.name(row)} has neither. Remove "
                'the row, or set config.data.on_error="skip".'
            )
        try:
            return read(location(value["path"]))
        except DataError as error:
            raise DataError(f"{self.name(row)}: {error}") from error

    def name(self, row: int) -> str:
        """Data set, split and row."""
        return f"{self.where} row {row}"


def load_huggingface(config: DataConfig, split: str) -> Records:
    """Rows of a data set of the hub, or of a directory that `save_to_disk` wrote.

    Args:
        config: `path` is "name" or "name:configuration" on the hub, a directory with one saved
            split per folder, or a directory of data files; `columns`, `template` and `on_error`.
        split: name of the split.

    Returns:
        Examples {"text"}, {"image"} or both.

    Raises:
        ConfigError: `datasets` is not installed, or a column is missing or of a wrong type.
        DataError: the data set cannot be read.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            "config.data.source = 'huggingface' needs the package datasets; install "
            "pip install 'aft_jax[data]'."
        ) from error
    table, where = _load(config.path, split), f"{config.path} split {split!r}"
    columns = choose_columns(config, table.column_names, where)
    if columns.image and not isinstance(table.features[columns.image], datasets.Image):
        raise ConfigError(
            f"config.data.columns.image names an Image column; {columns.image!r} of {where} is "
            f"{table.features[columns.image]}. Cast it with cast_column(..., datasets.Image()) "
            "and save it anew."
        )
    labels, classes = _labels(table, columns.label, where)
    ids = None
    if columns.id:
        ids = [str(name) for name in table.data.column(columns.id).to_pylist()]
    read = [name for name in (columns.image, *columns.text.values()) if name]
    arrays = {name: table.data.column(name) for name in read}
    rows = ArrowRows(arrays, len(table), columns, where)
    return collect(rows, labels, config.on_error, ids=ids, classes=classes)


def _load(path: str, split: str) -> Any:
    import datasets

    state = pathlib.Path(path) / split / "state.json"
    if state.is_file() and not json.loads(state.read_text())["_data_files"]:
        raise DataError(  # `datasets` saves an empty table and then cannot load it
            f"a split has at least one example; {path} split {split!r} has none."
        )
    saved = "://" in path or state.is_file()
    name, _, configuration = path.partition(":")
    # The hub, its cache, buckets and builders raise errors with no base class in common.
    try:
        if saved:
            return datasets.load_from_disk(f"{path}/{split}")
        if pathlib.Path(path).is_dir():
            return datasets.load_dataset(path, split=split)
        return datasets.load_dataset(name, configuration or None, split=split)
    except Exception as error:
        raise DataError(
            "config.data.path is a data set of the hub, or a directory that save_to_disk wrote "
            f"with a folder per split; {path!r} with split {split!r} cannot be read: "
            f"{type(error).__name__}: {error}. Without network, download it elsewhere and bring "
            "the directory that DatasetDict.save_to_disk writes."
        ) from error


def _labels(
    table: Any, column: str | None, where: str
) -> tuple[list[str | int | None], tuple[str, ...] | None]:
    """Raw labels, and the class names that the column publishes."""
    if column is None:
        return [None] * len(table), None
    values = table.data.column(column).to_pylist()
    names = getattr(table.features[column], "names", None)
    labels = [label_of(value, f"{where} row {i}") for i, value in enumerate(values)]
    return labels, None if names is None else tuple(names)
