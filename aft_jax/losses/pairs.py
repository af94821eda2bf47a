"""Sums over all pairs of rows of a batch, a block of columns at a time: no [r, b] array.

Each step gathers one block of everyone's rows, [n, ...], and compares this device's rows with it. A
pass over all blocks moves every feature between devices once, and its temporaries are [r, n]. The
backward pass makes each block anew instead of keeping it, so that the features travel twice in all.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from aft_jax.losses.axis import AxisName, batch_rows, gather_rows, row_shards
from aft_jax.types import Array, Float, PyTree

MANY_PAIRS = 2**24
"""More are compared in blocks. A kernel of so many is 64 MiB of float32, and a loss holds several.
Blocks take 1.1 to 2.2 times as long (`benchmarks/loss.py`): each is made anew in the backward pass,
and those of a tensor product once more before, for their means."""

BLOCK_PAIRS = 2**22
"""Pairs in a block (16 MiB of float32). In the global view the devices, whose number is not known,
share a block: hence not less, though 2^18 is as fast on one CPU (`benchmarks/loss.py`)."""

BLOCK_ROWS = 128
"""Rows of everyone's in a block, at least: the side of a TPU's matrix unit."""

Comparison = Callable[[PyTree, PyTree], jax.Array]
"""(rows, others), arrays [r, ...] and [n, ...] of one structure, -> [r, n], f(row_i, row_j).

It treats its two arguments alike, f(x, y) = f(y, x), and is zero where one of them is all zeros. It
is a plain function: what it needs of the batch is in the rows.
"""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 2))
def pair_sums(compare: Comparison, rows: PyTree, axis_name: AxisName = None) -> Float[Array, " r"]:
    """s_i = sum_j f(x_i, x_j) over the global batch.

    As f treats its arguments alike, the cotangent c of s gives x_i the gradient

        sum_j (c_i + c_j) d_1 f(x_i, x_j)

    which needs this device's rows only as the first argument: nothing is summed over devices.

    Args:
        compare: f.
        rows: arrays [r, ...], this device's rows.
        axis_name: the mapped axis, or None.

    Returns:
        [r].
    """

    def step(sums: jax.Array, block: PyTree) -> tuple[jax.Array, None]:
        return sums + jnp.sum(compare(rows, _everyones(block, axis_name)), axis=1), None

    start = _first_column(rows)
    sums, _ = jax.lax.scan(step, start, _blocks(rows, axis_name))
    return sums


def _pair_sums_backward(compare, axis_name, rows, cotangent):
    return (_pair_gradients(compare, rows, cotangent, axis_name),)


def _pair_gradients(
    compare: Comparison, rows: PyTree, weights: jax.Array, axis_name: AxisName
) -> PyTree:
    """sum_j (c_i + c_j) d_1 f(x_i, x_j), itself differentiable as it stands."""

    def step(totals: PyTree, block: tuple[PyTree, jax.Array]) -> tuple[PyTree, None]:
        others, their_weights = _everyones(block, axis_name)
        _, pull = jax.vjp(lambda rows: compare(rows, others), rows)
        (gradients,) = pull(weights[:, None] + their_weights[None, :])
        return jax.tree.map(jnp.add, totals, gradients), None

    start = jax.tree.map(jnp.zeros_like, rows)
    # Made anew when the gradient itself is differentiated, too.
    totals, _ = jax.lax.scan(jax.checkpoint(step), start, _blocks((rows, weights), axis_name))
    return totals


pair_sums.defvjp(
    lambda compare, rows, axis_name: (pair_sums(compare, rows, axis_name), rows),
    _pair_sums_backward,
)


def many_pairs(rows: int, columns: int) -> bool:
    """Whether so many pairs are compared a block at a time."""
    return rows * columns > MANY_PAIRS


def _first_column(rows: PyTree) -> jax.Array:
    """Zeros [r] that vary over the devices as the rows do."""
    first = jax.tree.leaves(rows)[0]
    return jnp.zeros_like(first if first.ndim == 1 else first[:, 0])


def _everyones(block: PyTree, axis_name: AxisName) -> PyTree:
    return jax.tree.map(lambda part: gather_rows(part, axis_name), block)


def _blocks(rows: PyTree, axis_name: AxisName) -> PyTree:
    """This device's rows as [steps, n, ...], padded with zeros where they cannot be cut evenly.

    A block takes every steps-th row: where the batch is spread over devices row by row, each then
    holds its part of every block.
    """
    first = jax.tree.leaves(rows)[0]
    steps = _steps(first.shape[0], batch_rows(first, axis_name))
    return jax.tree.map(lambda part: _cut(part, steps), rows)


def _steps(rows: int, columns: int) -> int:
    """Into how many blocks the columns are cut, by cutting every device's rows.

    The compiler spreads a block over the devices where they divide it. How many there are is not
    known in the global view, mostly a power of two: hence the block with the most factors of two.
    """
    least = min(rows, -(-columns // max(BLOCK_ROWS, BLOCK_PAIRS // rows)))
    even = [steps for steps in range(least, 2 * least) if rows % steps == 0]
    return max(even, key=lambda steps: (rows // steps & -(rows // steps), -steps), default=least)


def _cut(part: jax.Array, steps: int) -> jax.Array:
    size, rest = -(-part.shape[0] // steps), part.shape[1:]
    missing = size * steps - part.shape[0]
    if missing or size % row_shards(part):
        part = gather_rows(part, None)
    if missing:
        part = jnp.pad(part, ((0, missing), *((0, 0) for _ in rest)))
    return jnp.swapaxes(part.reshape(size, steps, *rest), 0, 1)
