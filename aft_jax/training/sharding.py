"""Where arrays live: batches split over the devices along one "data" axis, state on each device.

The step sees global arrays, so the kernel is over the global batch: N devices give the loss and
gradients of one.
"""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from aft_jax.errors import ConfigError
from aft_jax.types import PyTree

AXIS = "data"


def data_mesh(devices: int, batch_size: int) -> Mesh:
    """The mesh of a run.

    Args:
        devices: how many to use; 0 means all.
        batch_size: rows of the global batch.

    Returns:
        A 1-D mesh with the axis "data", in Auto mode: the compiler places the collectives.

    Raises:
        ConfigError: there are fewer devices, or they do not divide the batch.
    """
    available = jax.devices()
    count = devices or len(available)
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
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=available[:count])


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device: the state."""
    return NamedSharding(mesh, P())


def row_sharded(mesh: Mesh) -> NamedSharding:
    """Rows split over the devices: batches."""
    return NamedSharding(mesh, P(AXIS))


def to_global(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Makes global arrays of the rows that this process loaded.

    Args:
        tree: host arrays holding this process's rows.
        sharding: of the global arrays.

    Returns:
        The same tree of `jax.Array`.
    """
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)
