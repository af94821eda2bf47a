"""The squared difference of two linear kernels on many devices: each has one tile of the pairs.

N devices stand in a grid of about sqrt(N) by sqrt(N). The one in row i and column j compares the
rows of a batch that grid row i holds with those of grid column j, and so gathers 2 b / sqrt(N) rows
in place of all b. On 512 TPU chips with 8 rows of 3,328 columns each that is a tenth of the bytes
between chips, and a sixteenth of those in a chip's memory (`benchmarks/tpu_aot.py`).

The mesh is that of the context (`jax.set_mesh`, or the trainer's): under Auto axes nothing in an
array says how many devices there are.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from aft_jax.losses.axis import AxisName
from aft_jax.losses.moments import PRECISION
from aft_jax.losses.rows import centred_unit_rows
from aft_jax.types import Array, Float

BALANCE = 280
"""(b / N) (b - m) / m of a batch for which tiles and second moments take a TPU equally long.

Tiles take 4 (b / N) b m operations on a device, second moments 4 (b / N) m^2; in float32 each is
six of bfloat16. But every device writes and reads all moments, about seven times: 28 m^2 bytes. A
v5e does 240 operations while its memory moves a byte, and 240 x 28 / 24 = 280. For other TPUs it is
170 to 560 operations.
"""


def grid_mesh(
    rows: int, width: int, axis_name: AxisName = None
) -> jax.sharding.AbstractMesh | None:
    """The context's mesh, where its devices are to have a tile each.

    Args:
        rows: b of the global batch.
        width: m, of student and teachers together.
        axis_name: the mapped axis; None in the global view, the only one with tiles.

    Returns:
        A mesh of one Auto axis and more than one device that divide the rows, or None.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if axis_name is not None or mesh.empty or mesh.axis_types != (AxisType.Auto,):
        return None
    if mesh.size == 1 or rows % mesh.size:
        return None
    return mesh if rows // mesh.size * (rows - width) < BALANCE * width else None


def squares_by_grid(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b t"],
    mask: Float[Array, " b"],
    mesh: jax.sharding.AbstractMesh,
) -> Float[Array, ""]:
    """sum_ij (K - K_t)_ij^2 of linear kernels, a tile on each device.

    Args:
        student: [b, d] features in the compute dtype.
        teacher: [b, t] scaled features.
        mask: [b] 1 for rows that count.
        mesh: see `grid_mesh`.

    Returns:
        The sum over all pairs of the global batch.
    """
    sides = [centred_unit_rows(side, mask) for side in (student, teacher)]
    return tile_squares(jnp.concatenate(sides, axis=1), student.shape[1], mesh)


def grid_shape(devices: int) -> tuple[int, int]:
    """Rows and columns of the grid: the two divisors that are nearest to each other.

    Args:
        devices: N.

    Returns:
        (the smaller, the larger).
    """
    smaller = max(side for side in range(1, math.isqrt(devices) + 1) if devices % side == 0)
    return smaller, devices // smaller


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def tile_squares(
    rows: Float[Array, "b m"], split: int, mesh: jax.sharding.AbstractMesh
) -> Float[Array, ""]:
    """sum_ij (f_i . f_j - t_i . t_j)^2 of rows [f, t] that are spread over a mesh.

    With D_ij the difference and S = diag(1, ..., -1, ...), x_i has the gradient 4 sum_j D_ij S x_j:
    a tile of D gives its part of it at once, so that both passes gather the rows once.

    Args:
        rows: X [b, m].
        split: width of f; the rest is t.
        mesh: one axis, whose devices divide b.

    Returns:
        A scalar.
    """
    return _with_gradient(rows, split, mesh)[0]


def _with_gradient(rows, split, mesh):
    (axis,) = mesh.axis_names
    spread, whole = PartitionSpec(axis), PartitionSpec()
    tile = jax.shard_map(
        functools.partial(_tile, split=split, axis=axis, devices=mesh.size),
        mesh=mesh,
        in_specs=spread,
        out_specs=(whole, spread),
        check_vma=False,  # it cannot follow groups of devices
    )
    return tile(rows)


tile_squares.defvjp(_with_gradient, lambda split, mesh, own, cotangent: (cotangent * own,))


def _tile(rows, *, split, axis, devices):
    """This device's rows [b / N, m] -> the sum over all pairs, and the gradient of its rows."""
    height, width = grid_shape(devices)
    across = [[i * width + j for j in range(width)] for i in range(height)]
    along = [[i * width + j for i in range(height)] for j in range(width)]

    def gathered(groups: list[list[int]]) -> jax.Array:
        return jax.lax.all_gather(rows, axis, tiled=True, axis_index_groups=groups)

    signs = jnp.where(jnp.arange(rows.shape[1]) < split, 1, -1).astype(rows.dtype)
    left, right = gathered(across), gathered(along) * signs[None, :]
    difference = jnp.matmul(left, right.T, precision=PRECISION)
    total = jax.lax.psum(jnp.sum(jnp.square(difference)), axis)
    part = 4 * jnp.matmul(difference, right, precision=PRECISION)
    return total, jax.lax.psum_scatter(part, axis, tiled=True, axis_index_groups=across)
