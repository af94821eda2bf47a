"""Sums and gathers over the batch, however the batch is spread over devices.

Three layouts reach the loss:

    global view   arrays hold the whole batch; under Auto axes the compiler inserts the collectives
    explicit      the same, with shardings in the types: what must be gathered is resharded here
    manual        inside `shard_map` or `pmap`, arrays hold one device's r rows of b, and
                  `axis_name` names the axis to reduce over

Everything here is linear and differentiates by itself.
"""

import math
from collections.abc import Hashable, Sequence

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

AxisName = Hashable | None


def batch_sum(partial: jax.Array, axis_name: AxisName) -> jax.Array:
    """The sum over all devices of a sum over this device's rows."""
    return partial if axis_name is None else jax.lax.psum(partial, axis_name)


def batch_max(partial: jax.Array, axis_name: AxisName) -> jax.Array:
    """The maximum over all devices; not differentiable, so its argument must be stop-gradiented."""
    return partial if axis_name is None else jax.lax.pmax(partial, axis_name)


def batch_rows(rows: jax.Array, axis_name: AxisName) -> int:
    """The number of rows b of the global batch, known at trace time."""
    return rows.shape[0] if axis_name is None else rows.shape[0] * jax.lax.axis_size(axis_name)


def gather_rows(rows: jax.Array, axis_name: AxisName) -> jax.Array:
    """Every row of the global batch, [r, ...] -> [b, ...], on every device.

    Under Auto axes this is the identity: the compiler gathers where a product needs it.
    """
    if axis_name is not None:
        return jax.lax.all_gather(rows, axis_name, axis=0, tiled=True)
    mesh = explicit_mesh(rows)
    if mesh is None:
        return rows
    return jax.sharding.reshard(rows, NamedSharding(mesh, PartitionSpec(*[None] * rows.ndim)))


def first_row(rows: jax.Array, axis_name: AxisName) -> jax.Array | int:
    """The place in the global batch of this device's first row."""
    return 0 if axis_name is None else rows.shape[0] * jax.lax.axis_index(axis_name)


def transposed(kernel: jax.Array, axis_name: AxisName) -> jax.Array:
    """This device's rows [r, b] of the transpose of a [b, b] matrix that is spread by its rows."""
    if axis_name is not None:
        return jax.lax.all_to_all(kernel, axis_name, split_axis=1, concat_axis=0, tiled=True).T
    mesh = explicit_mesh(kernel)
    if mesh is None:
        return kernel.T
    return jax.sharding.reshard(kernel.T, NamedSharding(mesh, jax.typeof(kernel).sharding.spec))


def whole_width(rows: jax.Array) -> jax.Array:
    """Undoes a sharding of the feature dimension under Explicit axes: products contract over it."""
    mesh = explicit_mesh(rows)
    if mesh is None:
        return rows
    spec = PartitionSpec(jax.typeof(rows).sharding.spec[0], *[None] * (rows.ndim - 1))
    return jax.sharding.reshard(rows, NamedSharding(mesh, spec))


def rows_alike(arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Arrays of the same examples, whole in width and spread alike, as operations on both demand.

    Under Explicit axes all are spread as the first one that is; under others they stay.
    """
    whole = [whole_width(array) for array in arrays]
    spread = [array for array in whole if row_shards(array) > 1]
    if not spread:
        return whole
    like = jax.typeof(spread[0]).sharding
    return [jax.sharding.reshard(array, like) for array in whole]


def row_shards(rows: jax.Array) -> int:
    """Over how many devices Explicit axes spread the rows; 1 where the types do not say."""
    mesh = explicit_mesh(rows)
    if mesh is None:
        return 1
    axes = jax.typeof(rows).sharding.spec[0] or ()
    return math.prod(mesh.shape[axis] for axis in ([axes] if isinstance(axes, str) else axes))


def explicit_mesh(array: jax.Array) -> jax.sharding.AbstractMesh | None:
    """The mesh in the array's type where one of its axes is Explicit, else None."""
    mesh = jax.typeof(array).sharding.mesh
    return mesh if AxisType.Explicit in mesh.axis_types else None
