"""Sums over pairs in blocks: their values, first and second derivatives, and how rows are cut."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from aft_jax.losses import pairs
from aft_jax.losses.pairs import many_pairs, pair_sums
from tests.losses.blocks import pairs_in_blocks


def closeness(rows, others):
    """(x . y)^2 a b: alike in both arguments, zero where one is zero."""
    products = jnp.matmul(rows["x"], others["x"].T)
    return jnp.square(products) * rows["a"][:, None] * others["a"][None, :]


def rows_of(batch):
    rng = np.random.default_rng(batch)
    return {"x": rng.normal(size=(batch, 3)), "a": rng.normal(size=batch)}


BATCHES = (1, 12, 37)  # less than a block, cut evenly, padded


@pytest.mark.parametrize("batch", BATCHES)
def test_sums_over_pairs(batch, x64):
    rows = rows_of(batch)
    pairs_of_rows = np.square(rows["x"] @ rows["x"].T) * np.outer(rows["a"], rows["a"])
    with pairs_in_blocks():
        sums = jax.jit(functools.partial(pair_sums, closeness))(jax.tree.map(jnp.asarray, rows))
    np.testing.assert_allclose(sums, np.sum(pairs_of_rows, axis=1), rtol=1e-12)


@pytest.mark.parametrize("batch", BATCHES)
def test_derivatives_of_sums_over_pairs(batch, x64):
    @jax.jit
    def total(rows):
        return jnp.sum(jnp.sin(pair_sums(closeness, rows) / batch))  # a weight for every row

    with pairs_in_blocks():
        check_grads(total, (jax.tree.map(jnp.asarray, rows_of(batch)),), order=2, modes=["rev"])


def test_a_batch_of_batches(x64):
    rows = {"x": np.random.default_rng(0).normal(size=(2, 12, 3)), "a": np.ones((2, 12))}
    with pairs_in_blocks():
        sums = jax.vmap(functools.partial(pair_sums, closeness))(jax.tree.map(jnp.asarray, rows))
    expected = np.sum(np.square(rows["x"] @ np.swapaxes(rows["x"], 1, 2)), axis=2)
    np.testing.assert_allclose(sums, expected, rtol=1e-12)


def test_blocks_start_where_a_kernel_is_large():
    assert not many_pairs(4096, 4096)
    assert many_pairs(4097, 4096)
    assert many_pairs(1024, 2**15)


@pytest.mark.parametrize(
    ("batch", "block"),
    [
        (10_000, 400),  # 25 blocks of at most 419 rows: 400 are 16 x 25, and 8 devices share them
        (12_000, 240),  # not 300, which has fewer factors of two
        (12_288, 256),
        (65_536, 128),  # the least
        (8_191, 512),  # a prime: 16 blocks, the last one row short
    ],
)
def test_blocks_that_devices_can_share(batch, block):
    rows = {"x": jax.ShapeDtypeStruct((batch, 2), jnp.float32)}

    def product(rows, others):
        return jnp.matmul(rows["x"], others["x"].T)

    program = jax.jit(functools.partial(pair_sums, product)).lower(rows).as_text()
    assert f"tensor<{batch}x{block}xf32>" in program
    assert pairs.BLOCK_PAIRS == 2**22
