"""Where arrays live: batches split over the devices along one "data" axis, state on each device.

The step sees global arrays, so the kernel is over the global batch: N devices give the loss and
gradients of one. The state may be split, too (Rajbhandari et al., "ZeRO", SC 2020, arXiv
1910.02054): the compiler then gathers a parameter where a product needs it, and each device updates
its own part.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from aft_jax.errors import ConfigError
from aft_jax.types import PyTree

AXIS = "data"


def data_mesh(devices: int, batch_size: int, micro_batches: int = 1) -> Mesh:
    """The mesh of a run.

    Args:
        devices: how many to use; 0 means all.
        batch_size: rows of the global batch.
        micro_batches: into which it is cut.

    Returns:
        A 1-D mesh with the axis "data", in Auto mode: the compiler places the collectives.

    Raises:
        ConfigError: there are fewer devices, they do not divide the batch, or some of them would
            be left out where several processes have their own.
    """
    available = jax.devices()
    count = devices or len(available)
    if count < len(available) and jax.process_count() > 1:
        raise ConfigError(
            f"config.devices is 0, all of them, where {jax.process_count()} processes share a run; "
            f"got {devices} of {len(available)}. Start fewer processes instead."
        )
    if count > len(available):
        raise ConfigError(
            f"config.devices is at most the {len(available)} devices here; got {devices}."
        )
    if batch_size % count:
        raise ConfigError(
            f"config.batch_size is a multiple of the devices that share it; got {batch_size} rows "
            f"for {count} devices. "
            f"Set config.batch_size to {-(-batch_size // count) * count}, or config.devices."
        )
    if batch_size % (count * micro_batches):
        raise ConfigError(
            "config.batch_size is a multiple of the devices times config.accumulation_steps; got "
            f"{batch_size} rows for {count} devices and {micro_batches} micro-batches."
        )
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=available[:count])


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device: the state."""
    return NamedSharding(mesh, P())


def row_sharded(mesh: Mesh) -> NamedSharding:
    """Rows split over the devices: batches."""
    return NamedSharding(mesh, P(AXIS))


def stacked_rows(mesh: Mesh) -> NamedSharding:
    """A leading axis of steps or micro-batches on each device, rows split over the devices."""
    return NamedSharding(mesh, P(None, AXIS))


def state_shardings(mesh: Mesh, state: PyTree, kind: str) -> PyTree:
    """Where each array of a training state lives.

    Args:
        mesh: the devices.
        state: arrays, or their shapes and dtypes.
        kind: "replicated", or "sharded" for a part of every array on each device: along its
            longest axis that the devices divide, if it has one.

    Returns:
        A sharding for each array.
    """
    return jax.tree.map(
        lambda leaf: NamedSharding(
            mesh, _split(leaf.shape, mesh.size) if kind == "sharded" else P()
        ),
        state,
    )


def _split(shape: tuple[int, ...], parts: int) -> P:
    fitting = [axis for axis, size in enumerate(shape) if size and size % parts == 0]
    if not fitting:
        return P()
    longest = max(fitting, key=lambda axis: shape[axis])
    return P(*(AXIS if axis == longest else None for axis in range(len(shape))))


def placed(array: np.ndarray | jax.Array, sharding: jax.sharding.Sharding) -> jax.Array:
    """An array that every process has whole on its host, where a sharding puts it.

    Args:
        array: the same in all processes.
        sharding: of the result.

    Returns:
        The global array.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def on_every_device(tree: PyTree, mesh: Mesh) -> PyTree:
    """Arrays that every process has on its host, like a saved student's, whole on each device."""
    return jax.tree.map(lambda leaf: placed(leaf, replicated(mesh)), tree)


def root_key(seed: int, mesh: Mesh) -> jax.Array:
    """The key of a run's randomness, on every device."""
    return root_keys([seed], replicated(mesh))[0]


def root_keys(seeds: Sequence[int], sharding: NamedSharding) -> jax.Array:
    """[m] keys of the randomness of several runs, where a sharding puts them."""
    with jax.ensure_compile_time_eval():  # under `jit`, too, these are numbers
        bits = np.stack([jax.random.key_data(jax.random.key(seed)) for seed in seeds])
    return jax.jit(jax.random.wrap_key_data, out_shardings=sharding)(bits)


def gathered(tree: PyTree, mesh: Mesh) -> PyTree:
    """The same arrays, whole on every device."""
    everywhere = replicated(mesh)
    if all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        return tree
    return jax.jit(_same, out_shardings=everywhere)(tree)


def _same(tree: PyTree) -> PyTree:
    return tree


def own_rows(rows: np.ndarray, sharding: NamedSharding) -> np.ndarray:
    """This process's share of a global batch, in the order of its devices' places in it.

    Args:
        rows: [b] of the global batch, the same in every process.
        sharding: of the batch.

    Returns:
        The rows that this process loads; all where they are replicated.
    """
    places = sharding.addressable_devices_indices_map((len(rows),)).values()
    parts = sorted({part[0].indices(len(rows))[:2] for part in places if part is not None})
    return np.concatenate([rows[start:stop] for start, stop in parts])


def to_global(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Makes global arrays of the rows that this process loaded.

    Args:
        tree: host arrays holding this process's rows, see `own_rows`.
        sharding: of the global arrays.

    Returns:
        The same tree of `jax.Array`.
    """
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)
