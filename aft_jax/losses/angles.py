"""Angles of all triples of examples, compared without an array as long as the triples are many.

The angle at row i between rows j and k comes from the Gram matrix G = X X^T:

    A_ijk = <(x_j - x_i) / n_ij, (x_k - x_i) / n_ik>
          = R_ij (G_jk - h_ij - h_ik) R_ik,    R_ij = 1 / n_ij,  h_ij = G_ij - G_ii / 2

so that all b^3 of them take O(b^3) work, however wide the features are, and O(b^2) memory a row i.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from aft_jax.losses.moments import PRECISION
from aft_jax.types import Array, Float

BLOCK_ENTRIES = 2**17
"""Angles at a time (512 KiB); `benchmarks/methods.py` finds 2^16 to 2^18 alike."""

BLOCK_ROWS = 8
"""Rows i at a time, at least: so many devices can share the work of a global batch."""


class Corners(NamedTuple):
    """What the angles of one side are made of.

    Attributes:
        products: G [b, b], of the global batch.
        halfway: h [r, b], this device's rows.
        inverse: R [r, b]; zero where an angle does not count or a side has no length.
    """

    products: jax.Array
    halfway: jax.Array
    inverse: jax.Array


class _Block(NamedTuple):
    """Rows i of both sides' `halfway` and `inverse`, each [n, b]."""

    halfway: jax.Array
    inverse: jax.Array
    their_halfway: jax.Array
    their_inverse: jax.Array


def smooth_l1(difference: Array) -> Array:
    """x^2 / 2 up to |x| = 1 and |x| - 1/2 beyond, entry by entry."""
    slope = jnp.clip(difference, -1, 1)
    return slope * (difference - slope / 2)


@jax.custom_vjp
def angle_differences(student: Corners, teacher: Corners) -> Float[Array, ""]:
    """sum_ijk smooth_l1(A_ijk - A_t,ijk) over this device's rows i and all j, k.

    One pass gives value and gradient, so the backward pass repeats nothing and keeps three [b, b]
    arrays. The teacher gets no gradient.

    Args:
        student: its corners.
        teacher: its corners.

    Returns:
        The sum, a scalar.
    """

    def step(total: jax.Array, block: _Block) -> tuple[jax.Array, None]:
        difference, _ = _differences(student.products, teacher.products, block)
        return total + jnp.sum(smooth_l1(difference)), None

    total, _ = jax.lax.scan(step, _nothing(student.halfway), _blocks(student, teacher))
    return total


def _angle_differences_forward(student: Corners, teacher: Corners):
    def step(carry, block: _Block):
        total, for_products = carry
        difference, sides = _differences(student.products, teacher.products, block)
        slope = jnp.clip(difference, -1, 1)
        total = total + jnp.sum(slope * (difference - slope / 2))
        # dA_ijk/dG_jk = R_ij R_ik and dA_ijk/dh_ij = -R_ij R_ik; j and k count alike: hence 2.
        inverse = block.inverse
        per_row = _weighted(slope, inverse)
        for_products = for_products + jnp.einsum(
            "ij,ijk,ik->jk", inverse, slope, inverse, precision=PRECISION
        )
        return (total, for_products), (
            -2 * inverse * per_row,
            2 * _weighted(slope * sides, inverse),
        )

    rows, columns = student.halfway.shape
    start = _nothing(student.halfway), jnp.zeros_like(student.products)
    (total, for_products), rest = jax.lax.scan(step, start, _blocks(student, teacher))
    for_halfway, for_inverse = (
        jnp.swapaxes(blocks, 0, 1).reshape(-1, columns)[:rows] for blocks in rest
    )
    return total, (Corners(for_products, for_halfway, for_inverse), teacher)


def _angle_differences_backward(residuals, cotangent):
    gradient, teacher = residuals
    for_student = jax.tree.map(lambda leaf: cotangent * leaf, gradient)
    return for_student, jax.tree.map(jnp.zeros_like, teacher)


angle_differences.defvjp(_angle_differences_forward, _angle_differences_backward)


def _differences(
    products: jax.Array, their_products: jax.Array, block: _Block
) -> tuple[jax.Array, jax.Array]:
    """A - A_t [n, b, b] of a block, and the student's G_jk - h_ij - h_ik."""
    sides = _sides(products, block.halfway)
    own = sides * _pairs(block.inverse)
    theirs = _sides(their_products, block.their_halfway) * _pairs(block.their_inverse)
    return own - theirs, sides


def _sides(products: jax.Array, halfway: jax.Array) -> jax.Array:
    return products[None] - halfway[:, :, None] - halfway[:, None, :]


def _pairs(inverse: jax.Array) -> jax.Array:
    return inverse[:, :, None] * inverse[:, None, :]


def _weighted(terms: jax.Array, inverse: jax.Array) -> jax.Array:
    """sum_k terms_ijk R_ik."""
    return jnp.einsum("ijk,ik->ij", terms, inverse, precision=PRECISION)


def _blocks(student: Corners, teacher: Corners) -> _Block:
    """All rows i as [steps, n, b], padded with rows whose inverse lengths are zero.

    A block takes every steps-th row: where the batch is spread over devices row by row, each then
    holds its part of every block.
    """
    rows, columns = student.halfway.shape
    size = min(rows, max(BLOCK_ROWS, BLOCK_ENTRIES // columns**2))
    steps = -(-rows // size)
    missing = size * steps - rows

    def cut(array: jax.Array) -> jax.Array:
        padded = jnp.pad(array, ((0, missing), (0, 0))) if missing else array
        return jnp.swapaxes(padded.reshape(size, steps, columns), 0, 1)

    return _Block(*map(cut, (*student[1:], *teacher[1:])))


def _nothing(like: jax.Array) -> jax.Array:
    """A scalar zero that varies over the devices as `like` does."""
    return jnp.zeros_like(like[0, 0])
