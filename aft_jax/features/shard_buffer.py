"""From consecutive batches of features to whole shards of a store."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from aft_jax.errors import StoreError
from aft_jax.features import shards
from aft_jax.features.kv import Directory
from aft_jax.features.manifest import Manifest, has_store
from aft_jax.features.writer import StoreWriter, check_ids, make_plan


def write_store(
    path: str,
    ids: np.ndarray,
    batches: Iterable[np.ndarray],
    width: int,
    *,
    dtype: str = "float32",
    **described: Any,
) -> Manifest:
    """Writes a whole store of features that are there already.

    Args:
        path: the store's directory; holds no complete store.
        ids: [n] example ids, unique and without line breaks.
        batches: consecutive [m, t] features of any float dtype, n rows in all.
        width: t.
        dtype: to store them in, "float32" or "bfloat16".
        **described: fields of the plan about the teacher and the data set.

    Returns:
        The manifest.

    Raises:
        StoreError: the store exists or was begun by another plan, the ids are none, repeated,
            broken over lines or not those described, the batches do not add up to n rows, or a
            feature is not finite in that dtype.
    """
    check_ids(ids)
    plan = make_plan(ids, {"pooled": (0, width)}, dtype=dtype, **described)
    store = Directory(str(path))
    if has_store(store.path):
        raise StoreError(f"a store is written once; {path} exists. Delete it to extract again.")
    writer = StoreWriter(store, ids, plan)
    buffer = ShardBuffer(writer, range(plan.shards))
    for batch in batches:
        buffer.add(batch)
    buffer.close()
    return writer.finish()


class ShardBuffer:
    """Rows on their way into shards: consecutive batches in, whole shards out."""

    def __init__(self, writer: StoreWriter, pending: Iterable[int], began: float | None = None):
        """Fills these shards, in this order.

        Args:
            writer: of the store.
            pending: numbers of the shards.
            began: `time.monotonic()` when a teacher began to compute the first one's rows; None
                where they are there already, and nothing is measured.
        """
        self._writer, self._plan, self._began = writer, writer.plan, began
        self._bounds = [(shard, *self._plan.rows_of(shard)) for shard in pending]
        self._held: list[tuple[np.ndarray, np.ndarray | None]] = []
        self._rows = 0

    def add(self, batch: np.ndarray, views: np.ndarray | None = None) -> None:
        """Takes the next rows.

        Args:
            batch: [m, t] features of any float dtype.
            views: with stored views: [m, 5].

        Raises:
            StoreError: they have another width, are too many, or are not finite.
        """
        if batch.shape[1:] != (self._plan.shape[1],):
            raise StoreError(
                f"features have one row an example, shape {self._plan.shape}; a batch came with "
                f"shape {batch.shape}."
            )
        while len(batch):
            if not self._bounds:
                raise StoreError(
                    f"features have one row an example, {self._plan.shape[0]} in all; a batch "
                    f"came with {len(batch)} more."
                )
            shard, start, stop = self._bounds[0]
            here = min(len(batch), stop - start - self._rows)
            part = self._finite(batch[:here], start + self._rows)
            self._held.append((part, None if views is None else views[:here]))
            batch, views = batch[here:], None if views is None else views[here:]
            self._rows += here
            if start + self._rows == stop:
                self._write(shard)

    def close(self) -> None:
        """Checks that nothing is left over.

        Raises:
            StoreError: rows are missing.
        """
        if self._bounds:
            shard, start, _ = self._bounds[0]
            raise StoreError(
                f"features have one row an example; got {start + self._rows} rows for "
                f"{self._plan.shape[0]}, so that shard {shard} is not full."
            )

    def _write(self, shard: int) -> None:
        rows = np.concatenate([part for part, _ in self._held])
        views = [part for _, part in self._held if part is not None]
        seconds = None
        if self._began is not None:
            now = time.monotonic()
            seconds, self._began = now - self._began, now
        self._writer.write(shard, rows, np.concatenate(views) if views else None, seconds)
        self._held, self._rows = [], 0
        self._bounds.pop(0)

    def _finite(self, batch: np.ndarray, first: int) -> np.ndarray:
        """The rows in the store's dtype."""
        with np.errstate(over="ignore", invalid="ignore"):
            rows = batch.astype(shards.numpy_dtype(self._plan.dtype))
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            example = self._writer.ids[(first + bad[0]) // max(1, self._plan.views)]
            raise StoreError(
                f"features are finite in {self._plan.dtype}; the teacher gave NaN or infinity for "
                f"example {str(example)!r} and {len(bad) - 1} others in its batch. "
                "Try the teacher in float32, or look at that example."
            )
        return rows
