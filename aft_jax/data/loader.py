"""Which rows make which batch, and batches prepared ahead of the step that reads them.

The order is a pure function of (seed, epoch), so nothing about it needs saving and any step can be
asked for. Grain runs the loading: its elements are whole batches, numbered by their step, so that
it adds microseconds to a batch; its shuffles and its batching of single examples would add
milliseconds.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

from aft_jax.errors import ConfigError

T = TypeVar("T")


def prefetched(
    load: Callable[[int], T], start: int, stop: int, threads: int, buffer: int
) -> Iterator[T]:
    """`load(start)`, ..., `load(stop - 1)` in this order, computed ahead in threads.

    Args:
        load: makes one element from its number; called in any order, in several threads at once.
        start: first number.
        stop: one past the last.
        threads: how many elements are made at once.
        buffer: how many elements may be waiting.

    Returns:
        The elements. What `load` raises is raised here, in its turn.
    """
    import grain

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer)
    return iter(grain.MapDataset.range(start, stop).map(load).to_iter_dataset(options))


@dataclasses.dataclass(frozen=True)
class RowOrder:
    """The rows of every training step, reshuffled each epoch, the ragged last batch dropped.

    Attributes:
        rows: n, examples of the split.
        batch_size: b, rows of a batch.
        seed: of the shuffles.

    Raises:
        ConfigError: the split is smaller than one batch.
    """

    rows: int
    batch_size: int
    seed: int

    def __post_init__(self):
        """Checks that one batch fits."""
        require_whole_batch(self.rows, self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass."""
        return self.rows // self.batch_size

    def epoch(self, step: int) -> int:
        """The pass, from 0, that a step belongs to."""
        return step // self.steps_per_epoch

    def size(self, step: int) -> int:
        """Rows of the batch of a step."""
        return self.batch_size

    def batch(self, step: int) -> np.ndarray:
        """The rows of the batch that optimizer step `step` (from 0) trains on.

        Args:
            step: the step.

        Returns:
            [b] positions in the split.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        shuffled = _shuffled(self.rows, self.seed, epoch)
        return shuffled[place * self.batch_size : (place + 1) * self.batch_size]


FROZEN_BATCHES = 100
"""Up to so many batches an epoch the published code draws once and keeps."""


@dataclasses.dataclass(frozen=True)
class OfficialOrder:
    """The rows of every training step as the published code has them: no row is dropped.

    The last batch of an epoch has the rows that are left, down to one. Where an epoch has at most
    `FROZEN_BATCHES` batches, every epoch is the first one again; else it is reshuffled.

    Attributes:
        rows: n, examples of the split.
        batch_size: b, rows of a batch but for the last of an epoch.
        seed: of the shuffles.
    """

    rows: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass, the ragged one included."""
        return -(-self.rows // self.batch_size)

    def epoch(self, step: int) -> int:
        """The pass, from 0, that a step belongs to."""
        return step // self.steps_per_epoch

    def size(self, step: int) -> int:
        """Rows of the batch of a step."""
        left = self.rows - step % self.steps_per_epoch * self.batch_size
        return min(left, self.batch_size)

    def batch(self, step: int) -> np.ndarray:
        """The rows of the batch that optimizer step `step` (from 0) trains on.

        Args:
            step: the step.

        Returns:
            [b], or fewer, positions in the split.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        frozen = self.steps_per_epoch <= FROZEN_BATCHES
        shuffled = _shuffled(self.rows, self.seed, 0 if frozen else epoch)
        return shuffled[place * self.batch_size : (place + 1) * self.batch_size]


Order = RowOrder | OfficialOrder
"""Which rows each step has."""


@functools.lru_cache(maxsize=4)  # batches are prepared ahead, so two epochs are in use at once
def _shuffled(rows: int, seed: int, epoch: int) -> np.ndarray:
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    order.flags.writeable = False
    return order


def pick_views(seed: int, epoch: int, ids: np.ndarray, views: int) -> np.ndarray:
    """Which of its stored views each example shows in an epoch.

    Args:
        seed: of the run.
        epoch: the pass, from 0.
        ids: [b] example ids.
        views: m.

    Returns:
        [b] numbers below m, a pure function of (seed, epoch, id).
    """
    keys = [f"{seed}/{epoch}/{name}".encode() for name in ids.tolist()]
    digests = [hashlib.blake2b(key, digest_size=8).digest() for key in keys]
    return np.array([int.from_bytes(digest, "little") % views for digest in digests], np.int64)


def require_whole_batch(rows: int, batch_size: int) -> None:
    """Refuses a batch larger than its split.

    Args:
        rows: n, examples of the training split.
        batch_size: b, rows of a batch.

    Raises:
        ConfigError: not one whole batch fits.
    """
    if rows < batch_size:
        raise ConfigError(
            f"config.batch_size is at most the rows of the training split; got {batch_size} "
            f"and {rows} rows. The ragged last batch is dropped, so no batch would be left."
        )


class PaddedRows(NamedTuple):
    """One evaluation batch.

    Attributes:
        rows: [b] positions; the last batch repeats row 0 to fill up.
        mask: [b] float32, 0 for the filling.
    """

    rows: np.ndarray
    mask: np.ndarray


def evaluation_batches(rows: int, batch_size: int) -> list[PaddedRows]:
    """Every row once, in batches of one size.

    Args:
        rows: n, examples of the split.
        batch_size: b.

    Returns:
        Batches; their masks add up to n.
    """
    batches = []
    for start in range(0, rows, batch_size):
        positions = np.arange(start, start + batch_size)
        inside = positions < rows
        batches.append(PaddedRows(np.where(inside, positions, 0), inside.astype(np.float32)))
    return batches
