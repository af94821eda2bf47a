"""Random access to the record files that TensorFlow Datasets writes, without TensorFlow."""

import dataclasses
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from aft_jax.data.sources.storage import location, unreadable
from aft_jax.errors import DataError

HEADER = struct.Struct("<QI")
"""What precedes the data of a TFRecord: its length in bytes, and a checksum of that."""
CHECKSUM_BYTES = 4
"""What follows it: a checksum of the data."""


@dataclasses.dataclass(frozen=True)
class TFRecords:
    """The records of TFRecord files, found by where they start.

    Attributes:
        files: paths of the files.
        places: [n, 3] file, start of the data in bytes, length in bytes.
    """

    files: tuple[Any, ...]
    places: np.ndarray

    def __len__(self) -> int:
        """The number of records."""
        return len(self.places)

    def __getitem__(self, row: int) -> bytes:
        """The data of a record."""
        file, start, length = self.places[row].tolist()
        with self.files[file].open("rb") as opened:
            opened.seek(start)
            return opened.read(length)


def index_tfrecords(parts: Sequence[Any]) -> TFRecords:
    """Walks over the headers of TFRecord files.

    Args:
        parts: TFDS's file instructions: `filename`, `skip` and `take` count records of a file.

    Returns:
        The records.

    Raises:
        DataError: a file is missing, or shorter than its records.
    """
    files = tuple(location(part.filename) for part in parts)
    places = []
    for number, (file, part) in enumerate(zip(files, parts, strict=True)):
        try:
            found = _walk(file, part.skip + part.take)
        except OSError as error:
            raise unreadable(file, error) from error
        places += [(number, start, length) for start, length in found[part.skip :]]
    return TFRecords(files, np.array(places, np.int64).reshape(-1, 3))


def _walk(file: Any, records: int) -> list[tuple[int, int]]:
    """Start and length of the first records of a file."""
    size, start, found = file.stat().length, 0, []
    with file.open("rb") as opened:
        while len(found) < records:
            opened.seek(start)
            header = opened.read(HEADER.size)
            length = HEADER.unpack(header)[0] if len(header) == HEADER.size else size
            start += HEADER.size
            if start + length + CHECKSUM_BYTES > size:
                raise DataError(
                    f"{file} has {records} records, says its data set; it is cut short in record "
                    f"{len(found)}. Copy it again, or prepare the data set anew."
                )
            found.append((start, length))
            start += length + CHECKSUM_BYTES
    return found
