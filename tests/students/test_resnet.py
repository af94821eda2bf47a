"""Residual networks of both kinds: their options, and what no original shows."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from aft_jax.students.resnet import resnet
from aft_jax.students.resnet_v2 import resnet_v2
from aft_jax.students.student import from_linen

MAKERS = {
    "basic": functools.partial(resnet, depths=[1, 2], block="basic", width=4, stem_width=8),
    "bottleneck": functools.partial(resnet, depths=[2, 1], block="bottleneck", width=4),
    "v2": functools.partial(resnet_v2, depths=[2, 1], width=4, stem_width=8, groups=4),
}
WIDTHS = {"basic": 8, "bottleneck": 32, "v2": 32}
BOTH = pytest.mark.parametrize("name", list(MAKERS))


def images(count=4):
    pixels = np.random.default_rng(0).normal(size=(count, 24, 20, 3))
    return jnp.asarray(pixels, jnp.float32)


def made(name, **options):
    return from_linen(MAKERS[name](5, **options))


@functools.cache
def variables_of(name):
    # Its blocks do nothing at first where their last norms start at zero.
    options = {} if name == "v2" else {"zero_init_last": False}
    return jax.jit(made(name, **options).init)(jax.random.key(0), images(1))


def flat(variables) -> dict[str, Any]:
    """The tower's parameters by path."""
    return traverse_util.flatten_dict(variables["params"]["tower"], sep="/")


@BOTH
def test_a_bfloat16_student_keeps_float32_around_it(name):
    student, precise = made(name, dtype="bfloat16"), made(name)
    variables = variables_of(name)
    shapes = jax.eval_shape(student.init, jax.random.key(0), images(1))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    output, changed = jax.jit(student.apply, static_argnums=2)(variables, images(), True, {})
    wanted, _ = jax.jit(precise.apply, static_argnums=2)(variables, images(), True, {})
    assert {leaf.dtype for leaf in jax.tree.leaves((output, changed))} == {jnp.dtype("float32")}
    assert output.features.shape == (4, WIDTHS[name])
    error = np.abs(output.features - wanted.features).max()
    assert 0 < error < 0.1 * np.abs(wanted.features).max()


@BOTH
def test_rematerialising_changes_nothing(name):
    variables = variables_of(name)

    def losses(remat):
        student = made(name, remat=remat)

        def loss(params):
            given = {**variables, "params": params}
            output, changed = student.apply(given, images(), True, {})
            return jnp.sum(jnp.square(output.logits)), changed

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])

    for ours, wanted in zip(
        jax.tree.leaves(losses(True)), jax.tree.leaves(losses(False)), strict=True
    ):
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(("name", "last"), [("basic", "norm2"), ("bottleneck", "norm3")])
def test_blocks_start_as_their_shortcuts(name, last):
    variables = jax.jit(made(name).init)(jax.random.key(0), images(1))
    scales = {path: scale for path, scale in flat(variables).items() if path.endswith("/scale")}
    zero = {path for path, scale in scales.items() if not np.any(scale)}
    assert zero == {path for path in scales if path.endswith(f"{last}/scale")}
    assert len(zero) == 3
    others = flat(variables_of(name))
    assert all(np.all(others[path]) for path in scales)


def test_kernels_are_standardised():
    """Whatever is added to a kernel, or multiplied, the features stay."""
    student, variables = made("v2"), variables_of("v2")
    moved = {
        path: 3 * array + 0.5 if path.endswith("/kernel") else array
        for path, array in flat(variables).items()
    }
    params = variables["params"] | {"tower": traverse_util.unflatten_dict(moved, sep="/")}
    apply = jax.jit(student.apply, static_argnums=2)
    ours, _ = apply({"params": params}, images(), False, {})
    wanted, _ = apply(variables, images(), False, {})
    np.testing.assert_allclose(ours.features, wanted.features, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("basic", {"block": "wide"}, "block is one of 'basic', 'bottleneck'; got 'wide'"),
        ("basic", {"depths": [2, 0]}, r"blocks of each stage; got \[2, 0\]"),
        ("basic", {"width": 0}, "width is a positive integer; got 0"),
        ("basic", {"stride_first": True}, "stride_first is for block='bottleneck'; got 'basic'"),
        ("bottleneck", {"zero_init_last": 1}, "zero_init_last is True or False; got 1"),
        (
            "bottleneck",
            {"dtype": "float8"},
            "dtype is one of float32, bfloat16, float16; got 'float8'",
        ),
        ("v2", {"groups": 3}, "width is a multiple of groups; got 4 for 3 groups"),
        ("v2", {"stem_width": 6}, "stem_width is a multiple of groups; got 6 for 4 groups"),
        ("v2", {"remat": "yes"}, "remat is True or False; got 'yes'"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        made(name, **options)
