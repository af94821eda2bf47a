"""Which rows make which batch.

The order is a pure function of (seed, epoch): nothing about it needs saving, any step can be asked
for, and an example's place does not depend on how training got there. These are positions only;
NumPy shuffles them. (Grain's shuffled, batched index stream has the same properties, but takes
longer per batch than the demo's step.)
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from aft_jax.errors import ConfigError


class RowOrder:
    """The rows of every training step, reshuffled each epoch, the ragged last batch dropped."""

    def __init__(self, rows: int, batch_size: int, seed: int):
        """Fixes the order.

        Args:
            rows: n, examples of the split.
            batch_size: b, rows of a batch.
            seed: of the shuffles.

        Raises:
            ConfigError: the split is smaller than one batch.
        """
        require_whole_batch(rows, batch_size)
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self._epoch, self._shuffled = -1, np.arange(rows)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass."""
        return self.rows // self.batch_size

    def batch(self, step: int) -> np.ndarray:
        """The rows of the batch that optimizer step `step` (from 0) trains on.

        Args:
            step: the step.

        Returns:
            [b] positions in the split.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            order = np.random.default_rng([self.seed, epoch])
            self._epoch, self._shuffled = epoch, order.permutation(self.rows)
        return self._shuffled[place * self.batch_size : (place + 1) * self.batch_size]


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


def evaluation_batches(rows: int, batch_size: int) -> Iterator[PaddedRows]:
    """Every row once, in batches of one size.

    Args:
        rows: n, examples of the split.
        batch_size: b.

    Yields:
        Batches; their masks add up to n.
    """
    for start in range(0, rows, batch_size):
        positions = np.arange(start, start + batch_size)
        inside = positions < rows
        yield PaddedRows(np.where(inside, positions, 0), inside.astype(np.float32))
