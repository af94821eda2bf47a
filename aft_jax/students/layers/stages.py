"""What convolutional networks of several stages share: their depths and the pool after the stem."""

from typing import Any

import jax
import jax.numpy as jnp


def check_depths(depths: Any) -> tuple[int, ...]:
    """Refuses what does not say how many blocks each stage has.

    Args:
        depths: the option.

    Returns:
        A number for each stage.

    Raises:
        ValueError: it is no list of positive integers.
    """
    listed = isinstance(depths, list | tuple) and len(depths) > 0
    if not listed or not all(type(depth) is int and depth > 0 for depth in depths):
        raise ValueError(
            f"depths are a list of positive integers, the blocks of each stage; got {depths!r}"
        )
    return tuple(depths)


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of each 3x3 window, every second window, with zeros around the image.

    After a ReLU these zeros change nothing; before one they clip the borders, as in BiT.

    Args:
        x: [b, h, w, c].

    Returns:
        [b, h / 2, w / 2, c], rounded up.
    """
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Rows, then columns, as maxima of slices: the gradient of XLA's own windows is a scatter, on a
    # CPU more than twice as slow.
    return _thinned(_thinned(x, 1), 2)


def _thinned(x: jax.Array, axis: int) -> jax.Array:
    """The largest of three neighbours along an axis, every second time."""
    last = (x.shape[axis] - 3) // 2 * 2
    left, middle, right = (
        jax.lax.slice_in_dim(x, first, first + last + 1, 2, axis) for first in range(3)
    )
    return jnp.maximum(jnp.maximum(left, middle), right)
