"""What the compiled steps read: tables on the device, and for each step which of their rows.

Features and inputs with room on the device are put there once; a step is then told the numbers of
its rows. What has no room is loaded on the host for every step, ahead of it.
"""

import concurrent.futures
import dataclasses
import functools
import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from aft_jax.config import Config
from aft_jax.data import Order, prefetched
from aft_jax.errors import ConfigError
from aft_jax.features import DEVICE_SHARE, TeacherFeatures, free_memory
from aft_jax.training.batches import THREADS, StudentData, host_batch
from aft_jax.training.sharding import replicated, row_sharded, stacked_rows, to_global
from aft_jax.types import Batch, PyTree

_LOG = logging.getLogger(__name__)

HOST_SHARE = 1 / 8
"""Of the host's available memory, where a device has none of its own: the examples are there, too.
"""

CHUNK = 256
"""Examples that are read at once to fill a table."""


@dataclasses.dataclass(frozen=True)
class Feed:
    """The batches of an experiment, in a part for the host and a pure one for the device.

    Attributes:
        make_tables: a tree of arrays, whole on every device; read by every step, changed by none.
        load: (order, steps) -> what `gather` reads for those steps: global arrays with a leading
            axis of steps, rows over the devices.
        gather: (tables, what `load` returned, of one step) -> batch; pure.
    """

    make_tables: Callable[[], PyTree]
    load: Callable[[Order, range], PyTree]
    gather: Callable[[PyTree, PyTree], Batch]

    @functools.cached_property
    def tables(self) -> PyTree:
        """The tables, made when they are first asked for: trials that train together read none."""
        return self.make_tables()


def make_feed(
    config: Config, data: StudentData, features: TeacherFeatures | None, steps: int, mesh: Mesh
) -> Feed:
    """The feed of a run.

    Args:
        config: the run's config.
        data: the training split.
        features: the teachers' features of it, or None.
        steps: optimizer steps of the run.
        mesh: the devices.

    Returns:
        The feed.

    Raises:
        ConfigError: inputs that differ from step to step are asked to stay on the device.
    """
    resident = keeps_inputs(config, data, steps, mesh)
    read = data._replace(inputs=_row_numbers) if resident else data
    # Training drops ragged batches, so no row is padding. A mask of ones that the compiler knows
    # of costs nothing: one that it is told at run time takes half of the loss's time on a CPU.
    known = ["mask"] if features is not None and features.missing else ["mask", "feature_mask"]

    def tables() -> PyTree:
        return {
            "inputs": _input_table(data, mesh) if resident else (),
            "features": features.source.tables if features else (),
        }

    def load(order: Order, steps: range) -> PyTree:
        among = np.concatenate([order.batch(step) for step in steps])
        rows = row_sharded(mesh)

        def host(step: int) -> dict[str, Any]:
            return host_batch(read, features, order, step, config.views, rows, among)

        if len(steps) == 1:  # calls are loaded in several threads
            hosts = [host(steps[0])]
        else:
            with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
                hosts = list(pool.map(host, steps))
        told = [{name: host[name] for name in host if name not in known} for host in hosts]
        stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *told)
        return to_global(stacked, stacked_rows(mesh))

    def gather(tables: PyTree, picked: PyTree) -> Batch:
        inputs, named = picked["inputs"], picked["teacher_features"]
        if resident:
            inputs = jax.tree.map(lambda table: jnp.take(table, inputs, axis=0), tables["inputs"])
        if features is not None:
            named = features.source.gather(tables["features"], named)
        ones = dict.fromkeys(known, jnp.ones(picked["labels"].shape, jnp.float32))
        return Batch(**ones | picked | {"inputs": inputs, "teacher_features": named})

    return Feed(tables, load, gather)


def loaded_ahead(feed: Feed, order: Order, calls: Sequence[range]) -> Iterator[PyTree]:
    """What each call of several steps reads, prepared while those before it run.

    Args:
        feed: the feed.
        order: which rows each step has.
        calls: steps of each call.

    Returns:
        One tree for each call.
    """
    # They wait on the device, so it is their steps that are bounded, not the calls.
    ahead = max(1, THREADS // max(map(len, calls), default=1))
    return prefetched(lambda number: feed.load(order, calls[number]), 0, len(calls), ahead, ahead)


def plan_calls(
    first: int, steps: int, most: int, stops: Sequence[int], size: Callable[[int], int]
) -> list[range]:
    """Which steps go into each compiled call.

    Args:
        first: steps done.
        steps: optimizer steps of the run.
        most: of one call.
        stops: intervals at whose multiples a call ends: the state is looked at there.
        size: step -> rows of its batch; those of one call have as many.

    Returns:
        Ranges of steps, from `first` to `steps` without a gap.
    """
    calls = []
    start = first
    while start < steps:
        ends = [start + most, steps, *((start // every + 1) * every for every in stops)]
        stop = start + 1
        while stop < min(ends) and size(stop) == size(start):
            stop += 1
        calls.append(range(start, stop))
        start = stop
    return calls


def keeps_inputs(config: Config, data: StudentData, steps: int, mesh: Mesh) -> bool:
    """Whether what the student reads of all examples is kept on the device.

    Args:
        config: the run's config.
        data: the training split.
        steps: optimizer steps of the run.
        mesh: the devices.

    Returns:
        The answer, the same in all processes.

    Raises:
        ConfigError: it is asked for where inputs differ from step to step.
    """
    asked = config.inputs_residency
    varies = "text" in config.inputs.kind or config.views != 0
    if asked == "device" and varies:
        raise ConfigError(
            "config.inputs_residency='device' keeps one version of every example; texts are padded "
            f"batch by batch and views are cut anew, here config.inputs.kind={config.inputs.kind!r}"
            f" and config.views={config.views}. Use 'auto' or 'host'."
        )
    if asked != "auto" or varies:
        return asked == "device"
    if steps * config.batch_size < len(data.dataset):
        return False  # most examples are never seen
    example = jax.tree.leaves(data.inputs(np.zeros(1, int)))
    size = len(data.dataset) * sum(array.nbytes for array in example)
    device, host = free_memory(row_sharded(mesh))
    keeps = size <= (DEVICE_SHARE * device if device else HOST_SHARE * host)
    place = "on the device" if keeps else "in host memory"
    _LOG.info("inputs (%.1f MiB) are kept %s", size / 2**20, place)
    return keeps


_tables: "weakref.WeakKeyDictionary[Any, dict[Mesh, PyTree]]" = weakref.WeakKeyDictionary()


def _input_table(data: StudentData, mesh: Mesh) -> PyTree:
    """Everything that the student reads of a split, on every device; experiments share it."""
    kept = _tables.setdefault(data.inputs, {})
    if mesh not in kept:
        starts = range(0, len(data.dataset), CHUNK)

        def read(number: int) -> PyTree:
            stop = min(starts[number] + CHUNK, len(data.dataset))
            return data.inputs(np.arange(starts[number], stop))

        parts = list(prefetched(read, 0, len(starts), THREADS, THREADS))
        whole = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
        kept[mesh] = to_global(whole, replicated(mesh))
    return kept[mesh]


def _row_numbers(rows: np.ndarray, *, views: Any = None, among: Any = None) -> np.ndarray:
    return rows.astype(np.int32)
