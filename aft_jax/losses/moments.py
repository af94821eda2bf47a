"""Second moments of features over this device's rows, differentiated with the fewest products."""

import jax
import jax.numpy as jnp

from aft_jax.losses.axis import explicit_mesh
from aft_jax.types import Array, Float

# The losses subtract products near each other: a GPU's or TPU's default product (tf32, bfloat16)
# would lose the difference. They are a sliver of a step, so they can afford full float32.
PRECISION = jax.lax.Precision.HIGHEST


@jax.custom_vjp
def second_moment(rows: Float[Array, "r m"]) -> Float[Array, "m m"]:
    """X^T X over this device's rows, one product forward and one backward.

    Args:
        rows: [r, m].

    Returns:
        [m, m]; the caller adds up the devices.
    """
    return cross_moment(rows, rows)


def _second_moment_backward(rows, cotangent):
    return (jnp.matmul(rows, cotangent + cotangent.T, precision=PRECISION),)


second_moment.defvjp(lambda rows: (second_moment(rows), rows), _second_moment_backward)


def cross_moment(left: Float[Array, "r m"], right: Float[Array, "r n"]) -> Float[Array, "m n"]:
    """X^T Y over this device's rows: one product, and one more for each gradient.

    Args:
        left: X [r, m].
        right: Y [r, n].

    Returns:
        [m, n]; the caller adds up the devices.
    """
    mesh = explicit_mesh(left)
    sharding = None if mesh is None else jax.sharding.NamedSharding(mesh, jax.P(None, None))
    return jnp.matmul(left.T, right, precision=PRECISION, out_sharding=sharding)
