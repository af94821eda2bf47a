"""Data sets of TensorFlow Datasets, prepared on disk; TensorFlow itself is not needed to read."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from aft_jax.config import DataConfig
from aft_jax.data.records import Records
from aft_jax.data.sources.columns import Columns, choose_columns, label_of
from aft_jax.data.sources.raw_examples import Raw, collect
from aft_jax.data.sources.tfds_builder import find_builder
from aft_jax.data.sources.tfrecords import index_tfrecords
from aft_jax.errors import ConfigError, DataError


@runtime_checkable
class Serialized(Protocol):
    """Random access to serialized examples; thread-safe."""

    def __len__(self) -> int:
        """The number of examples."""
        ...

    def __getitem__(self, row: int, /) -> bytes:
        """One of them."""
        ...


@dataclasses.dataclass(frozen=True)
class SerializedRows:
    """Serialized examples, of which only the columns that are read are parsed.

    Attributes:
        records: n serialized examples.
        parse: one of them -> column -> value, images undecoded.
        columns: which columns are read.
        where: data set and split, for messages.
    """

    records: Serialized
    parse: Callable[[bytes], Mapping[str, Any]]
    columns: Columns
    where: str

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.records)

    def values(self, row: int) -> dict[str, Any]:
        """Column -> value of a row: bytes of an image, else str, int, float or bool."""
        # Readers and the parser of protocol buffers raise errors with no base class in common.
        try:
            parsed = self.parse(self.records[row])
            return {
                name: value if name == self.columns.image else _plain(value)
                for name, value in parsed.items()
            }
        except Exception as error:
            raise DataError(
                f"a record of a prepared data set can be parsed; {self.name(row)} cannot: {error}. "
                "Prepare the data set anew."
            ) from error

    def raw(self, row: int) -> Raw:
        """The text and the undecoded image of a row."""
        values = self.values(row)
        found: dict[str, bytes | str] = {}
        if self.columns.image:
            found["image"] = values[self.columns.image]
        if self.columns.text:
            found["text"] = self.columns.text_of(values, self.name(row))
        return found

    def name(self, row: int) -> str:
        """Data set, split and row."""
        return f"{self.where} row {row}"


def load_tfds(config: DataConfig, split: str) -> Records:
    """Rows of a data set of TensorFlow Datasets.

    Args:
        config: `path` is a builder's name ("cifar10", "glue/sst2", "name:1.0.0"), looked up in the
            environment's TFDS_DATA_DIR and prepared there if it is not yet, or the directory of a
            prepared version; `columns`, `template` and `on_error`.
        split: name of the split, or a part of it as TFDS writes it ("train[:80%]").

    Returns:
        Examples {"text"}, {"image"} or both.

    Raises:
        ConfigError: a package is not installed, the split is unknown, a column is missing or of a
            wrong type, or the files are of a format without random access.
        DataError: the data set is not there and cannot be prepared, or its files are damaged.
    """
    builder = find_builder(config.path)
    features, where = builder.info.features, f"{config.path} split {split!r}"
    columns = choose_columns(config, sorted(features), where)
    records = _records(builder, split, where)
    parse = _parser(features, [columns.image, *columns.text.values()], columns.image, where)
    rows = SerializedRows(records, parse, columns, where)
    labels: list[str | int | None] = [None] * len(rows)
    ids = None
    if columns.label or columns.id:
        parse = _parser(features, [columns.label, columns.id], None, where)
        entries = dataclasses.replace(rows, parse=parse)
        table = [entries.values(row) for row in range(len(rows))]
        if columns.label:
            labels = [
                label_of(values[columns.label], rows.name(i)) for i, values in enumerate(table)
            ]
        if columns.id:
            ids = [str(values[columns.id]) for values in table]
    names = getattr(features[columns.label], "names", None) if columns.label else None
    classes = None if names is None else tuple(names)
    return collect(rows, labels, config.on_error, ids=ids, classes=classes)


def _records(builder: Any, split: str, where: str) -> Serialized:
    """Random access to the serialized examples of a split."""
    import tensorflow_datasets as tfds

    splits = builder.info.splits
    try:
        parts = splits[split].file_instructions
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"config.data names splits of the data set, {', '.join(splits)}; {where}: {error}"
        ) from error
    kind = builder.info.file_format.value
    if kind == "array_record":
        return builder.as_data_source(
            split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
    if kind == "tfrecord":
        return index_tfrecords(parts)
    raise ConfigError(
        f"a prepared data set is read from array_record or tfrecord files; {where} has {kind} "
        "files. Prepare it anew: "
        'tfds.builder(name, file_format="array_record").download_and_prepare().'
    )


def _parser(
    features: Any, names: Sequence[str | None], image: str | None, where: str
) -> Callable[[bytes], Mapping[str, Any]]:
    """A function from a serialized example to the columns named."""
    import tensorflow_datasets as tfds

    chosen = {name: features[name] for name in names if name}
    for name, feature in chosen.items():
        if name == image and not isinstance(feature, tfds.features.Image):
            raise ConfigError(
                f"config.data.columns.image names an Image feature; {name!r} of {where} is "
                f"{feature}."
            )
        if name != image and feature.shape != ():
            raise ConfigError(
                f"config.data.columns names features of one value; {name!r} of {where} is "
                f"{feature}."
            )
    decoders = {image: tfds.decode.SkipDecoding()} if image else None
    parsed = tfds.features.FeaturesDict(chosen)
    parse: Any = parsed.deserialize_example_np
    return functools.partial(parse, decoders=decoders)


def _plain(value: Any) -> str | int | float | bool:
    """A scalar as Python has it."""
    plain = value.item() if hasattr(value, "item") else value
    return plain.decode("utf-8") if isinstance(plain, bytes) else plain
