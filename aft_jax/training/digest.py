"""Digests of arrays: what a checkpoint is compared with, so that no flipped bit goes unseen.

    words   w_0, w_1, ...   the array's bits as unsigned integers of at most 32 bits, in row order
    digest  (sum_i w_i, sum_i (2i + 1) w_i)  mod 2^32

An odd weight loses no bit of a word, so every change of one word shows. The sums do not depend on
how an array is split over devices.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.types import PyTree

ROWS = 1 << 22
"""Words that the host sums at once, to bound its memory."""


def leaf_names(tree: PyTree) -> dict[str, Any]:
    """The arrays of a tree by their path, "params/Dense_0/kernel", in the order of the names."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return dict(
        sorted(((path_name(path), leaf) for path, leaf in leaves), key=lambda item: item[0])
    )


def path_name(path: Any) -> str:
    """The name of a leaf at a path of JAX's."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def device_digests(tree: PyTree) -> jax.Array:
    """The digests of all arrays, where they are; nothing waits for them.

    Args:
        tree: n arrays, on the devices of one mesh or NumPy's.

    Returns:
        [n, 2] uint32, in the order of `leaf_names`.
    """
    return _stacked(
        [
            _device_digest(leaf)
            if isinstance(leaf, jax.Array)
            else np.array(_host_digest(np.asarray(leaf)), np.uint32)
            for leaf in leaf_names(tree).values()
        ]
    )


@jax.jit
def _stacked(digests: list[jax.Array]) -> jax.Array:
    return jnp.stack(digests)


@jax.jit  # shape by shape: a program of all leaves would take the compiler seconds
def _device_digest(leaf: jax.Array) -> jax.Array:
    words = _words(leaf)
    # From one iota an axis: a reshape would gather an array that is split over devices.
    weights = jnp.ones(words.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(words.ndim)):
        places = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        weights += places * jnp.uint32(2 * stride % 2**32)
        stride *= words.shape[axis]
    return jnp.stack([jnp.sum(words, dtype=jnp.uint32), jnp.sum(words * weights, dtype=jnp.uint32)])


def _words(leaf: jax.Array) -> jax.Array:
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    size = min(leaf.dtype.itemsize, 4)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[size]
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)


def host_digests(tree: PyTree) -> np.ndarray:
    """The same of arrays on the host, computed there.

    Args:
        tree: n NumPy arrays.

    Returns:
        [n, 2] uint32, in the order of `leaf_names`.
    """
    digests = [_host_digest(np.asarray(leaf)) for leaf in leaf_names(tree).values()]
    return np.array(digests, np.uint32).reshape(-1, 2)


def _host_digest(leaf: np.ndarray) -> tuple[int, int]:
    unsigned = np.dtype(f"u{min(leaf.dtype.itemsize, 4)}")
    words = np.ascontiguousarray(leaf).reshape(-1).view(unsigned)
    plain, weighted = 0, 0
    for start in range(0, len(words), ROWS):
        part = words[start : start + ROWS].astype(np.uint32)
        places = np.arange(start, start + len(part), dtype=np.uint64).astype(np.uint32)
        plain += int(np.sum(part, dtype=np.uint32))
        weighted += int(np.sum(part * (places * np.uint32(2) + np.uint32(1)), dtype=np.uint32))
    return plain % 2**32, weighted % 2**32
