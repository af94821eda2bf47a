"""Undecoded rows of any source: read once for their digests, decoded when an example is asked for.

A source brings a small frozen class with `raw(row)` and `name(row)`; what happens to a row that
cannot be read, and how content is hashed, is decided here for all of them.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np

from aft_jax.data.dataset import Example, Subset
from aft_jax.data.images import decode
from aft_jax.data.records import Records, first_few
from aft_jax.errors import ConfigError, DataError

THREADS = 16
"""That read rows at load time: they wait for the disk or network, or decode outside the GIL."""
RUN = 32
"""Rows that a thread reads in one go."""
LISTED = 20
"""Skipped rows that the warning names."""

Raw = Mapping[str, bytes | str | np.ndarray]
"""Undecoded content by example key: "image" as the bytes of its file or as an array, "text" str."""


@runtime_checkable
class RawExamples(Protocol):
    """Random access to undecoded rows; thread-safe."""

    def __len__(self) -> int:
        """The number of rows."""
        ...

    def raw(self, row: int) -> Raw:
        """The undecoded content of a row.

        Raises:
            DataError: it cannot be read; the message names the file or row.
        """
        ...

    def name(self, row: int) -> str:
        """How messages call the row: its file, or file and line."""
        ...


@dataclasses.dataclass(frozen=True)
class DecodedExamples:
    """Examples whose images are decoded when asked for.

    Attributes:
        source: the undecoded rows.
    """

    source: RawExamples

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.source)

    def __getitem__(self, row: int) -> Example:
        """The decoded row."""
        return _decoded(self.source.raw(row), self.source, row)


def _decoded(raw: Raw, source: RawExamples, row: int) -> Example:
    return {
        key: decode(value, source.name(row)) if isinstance(value, bytes) else value
        for key, value in raw.items()
    }


def collect(
    source: RawExamples,
    labels: Sequence[str | int | None],
    on_error: str,
    *,
    ids: Sequence[str] | None = None,
    classes: tuple[str, ...] | None = None,
) -> Records:
    """Reads every row once, in threads, and hashes its content.

    Args:
        source: the undecoded rows.
        labels: [n] raw labels.
        on_error: at a row that cannot be read, "raise" or "skip" it. An image is decoded here only
            with "skip", which takes as long as one more pass over the data; with "raise" a corrupt
            image is an error when its example is asked for.
        ids: [n] declared ids, if any.
        classes: published class names, if any.

    Returns:
        The records; without the rows that were skipped, which a logged warning counts and lists.

    Raises:
        ConfigError: `on_error` is unknown.
        DataError: a row cannot be read, with "raise".
    """
    if on_error not in ("raise", "skip"):
        raise ConfigError(f'config.data.on_error is "raise" or "skip"; got {on_error!r}.')
    examples, found = DecodedExamples(source), _digests(source, on_error)
    digests = np.array([entry for entry in found if entry], "<U16")
    if len(digests) == len(source):
        declared = None if ids is None else np.array(ids, str)
        return Records(examples, labels, digests, declared, classes)
    rows = [row for row, entry in enumerate(found) if entry]
    skipped = tuple(source.name(row) for row, entry in enumerate(found) if not entry)
    logging.getLogger(__name__).warning(
        "skipped %d of %d rows that cannot be read: %s",
        len(skipped),
        len(source),
        first_few(skipped, LISTED),
    )
    return Records(
        examples=Subset(examples, np.array(rows, np.int64)),
        labels=[labels[row] for row in rows],
        digests=digests,
        ids=None if ids is None else np.array([ids[row] for row in rows], str),
        classes=classes,
        skipped=skipped,
    )


def _digests(source: RawExamples, on_error: str) -> list[str]:
    """The digest of every row; "" for one that is to be skipped."""

    def digest_or_empty(row: int) -> str:
        try:
            raw = source.raw(row)
            if on_error == "skip":
                _decoded(raw, source, row)  # is it an image at all?
            return digest(raw)
        except DataError:
            if on_error == "raise":
                raise
            return ""

    # A task is a run of rows: one each would cost more than hashing a short text.
    runs = [range(i, min(i + RUN, len(source))) for i in range(0, len(source), RUN)]
    with ThreadPoolExecutor(THREADS) as pool:
        parts = pool.map(lambda rows: [digest_or_empty(row) for row in rows], runs)
        return [entry for part in parts for entry in part]


def digest(raw: Raw) -> str:
    """A hash of undecoded content.

    Args:
        raw: one row.

    Returns:
        16 hexadecimal digits. Keys and lengths are hashed too, so that no two different rows run
        together.
    """
    state = hashlib.sha256()
    for key, value in sorted(raw.items()):
        form = f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else ""
        data = value.encode() if isinstance(value, str) else bytes(value)
        state.update(f"{key} {form} {len(data)}\n".encode())
        state.update(data)
    return state.hexdigest()[:16]
