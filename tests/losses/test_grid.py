"""Tiles of the pairs on many devices: the numbers of one device, from a few rows of the others."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from aft_jax import aft_loss
from aft_jax.aot.costs import program_costs
from aft_jax.losses.grid import BALANCE, grid_mesh, grid_shape, tile_squares
from aft_jax.losses.regularizer import aft, on_mesh
from aft_jax.types import FeatureSpec
from tests import reference

ROWS, STUDENT, TEACHER = 48, 5, 9


def mesh_of(devices, kind=AxisType.Auto):
    return jax.make_mesh((devices,), ("data",), axis_types=(kind,), devices=jax.devices()[:devices])


def spread(mesh, tree):
    return jax.device_put(tree, NamedSharding(mesh, P("data")))


def features(rows=ROWS):
    rng = np.random.default_rng(0)
    student = rng.normal(size=(rows, STUDENT)) + 0.5
    teacher = rng.normal(size=(rows, TEACHER)) * 3
    return jnp.asarray(student, jnp.float32), jnp.asarray(teacher, jnp.float32)


def tiled(mesh, **keywords):
    """aft_loss where the mesh is known."""

    def loss(scales, student, teacher, mask=None):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            assert grid_mesh(student.shape[0], STUDENT + TEACHER) is not None
            return aft_loss(scales, student, teacher, mask=mask, **keywords)

    return loss


@pytest.mark.parametrize(
    ("devices", "shape"),
    [(1, (1, 1)), (2, (1, 2)), (6, (2, 3)), (8, (2, 4)), (7, (1, 7)), (256, (16, 16))],
)
def test_grid_is_as_square_as_can_be(devices, shape):
    assert grid_shape(devices) == shape


@pytest.mark.parametrize("devices", [2, 3, 4, 6, 8])
def test_value_is_that_of_the_reference(devices):
    student, teacher = features()
    scales = jnp.asarray(np.random.default_rng(1).normal(size=TEACHER), jnp.float32)
    mesh = mesh_of(devices)
    value = jax.jit(tiled(mesh))(scales, *spread(mesh, (student, teacher)))
    expected = reference.aft_loss([scales], student, [teacher])
    np.testing.assert_allclose(value, expected, rtol=2e-6)


@pytest.mark.parametrize("devices", [2, 6, 8])
def test_masked_rows_are_sliced_away(devices):
    student, teacher = features()
    kept = np.random.default_rng(2).random(ROWS) < 0.7
    mesh = mesh_of(devices)
    arrays = spread(mesh, (student.at[~kept].set(jnp.nan), teacher, jnp.asarray(kept)))
    value = jax.jit(tiled(mesh))(jnp.zeros(TEACHER), *arrays)
    expected = reference.aft_loss([np.zeros(TEACHER)], student[kept], [teacher[kept]])
    np.testing.assert_allclose(value, expected, rtol=2e-6)


@pytest.mark.parametrize("devices", [3, 8])
def test_first_and_second_derivatives_are_those_of_differences(x64, devices):
    mesh = mesh_of(devices)
    rows = jax.random.normal(jax.random.key(0), (24, 7), jnp.float64)

    def of_rows(rows):
        rows = jax.lax.with_sharding_constraint(rows, NamedSharding(mesh, P("data")))
        return jnp.sqrt(tile_squares(rows, 3, mesh.abstract_mesh))

    check_grads(jax.jit(of_rows), (rows,), order=2, modes=["rev"], atol=1e-5, rtol=1e-5)


def test_gradient_of_equal_kernels_is_finite():
    student, _ = features()
    mesh = mesh_of(8)

    def loss(student):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return aft_loss(None, student, 2 * student)

    value, gradient = jax.jit(jax.value_and_grad(loss))(spread(mesh, student))
    assert 1e-4 <= float(value) < 1.1e-4
    assert np.isfinite(gradient).all()


def test_constant_features_have_gradient_zero():
    _, teacher = features()
    mesh = mesh_of(8)
    arrays = spread(mesh, (jnp.ones((ROWS, STUDENT)), teacher))
    gradient = jax.jit(jax.grad(tiled(mesh), argnums=1))(jnp.zeros(TEACHER), *arrays)
    np.testing.assert_array_equal(gradient, 0)


def test_several_trials_at_once():
    mesh = mesh_of(8)
    student, teacher = features()
    three = jax.device_put(
        jnp.stack([student, 2 * student, -student]), NamedSharding(mesh, P(None, "data"))
    )
    loss = functools.partial(tiled(mesh), jnp.zeros(TEACHER))
    values = jax.jit(jax.vmap(loss, in_axes=(0, None)))(three, spread(mesh, teacher))
    expected = reference.aft_loss([np.zeros(TEACHER)], student, [teacher])
    np.testing.assert_allclose(values, [expected] * 3, rtol=2e-6)


def test_a_device_has_a_tile_and_gathers_its_sides():
    """8 devices stand 2 by 4: a tile has the rows of 4 devices against those of 2."""
    mesh, own, width = mesh_of(8), ROWS // 8, STUDENT + TEACHER
    arrays = spread(mesh, features())
    step = jax.jit(jax.value_and_grad(tiled(mesh), argnums=(0, 1)))
    text = str(step.lower(jnp.zeros(TEACHER), *arrays).compile().as_text())
    assert f"f32[{4 * own},{2 * own}]" in text
    assert re.search(rf"\[{ROWS},\d+\]", text) is None
    sent = program_costs(text, devices=8).sent
    assert sent["all-gather"] == own * width * 4 * ((4 - 1) + (2 - 1))
    assert sent["reduce-scatter"] == 4 * own * width * 4 * 3 / 4


def test_regularizer_on_a_mesh_has_the_same_value():
    student, teacher = features()
    mesh, plain = mesh_of(8), aft()
    known = on_mesh(plain, mesh)
    params = plain.init(jax.random.key(0), FeatureSpec(STUDENT, {"a": TEACHER}))
    expected = reference.aft_loss([np.zeros(TEACHER)], student, [teacher])

    @jax.jit
    def apply(student, teacher):
        return known.apply(params, student, {"a": teacher})

    arrays = spread(mesh, (student, teacher))
    value, metrics = apply(*arrays)
    np.testing.assert_allclose(value, expected, rtol=2e-6)
    np.testing.assert_allclose(metrics["regularizer"][0], expected * ROWS, rtol=2e-6)
    text = str(apply.lower(*arrays).compile().as_text())
    assert "all-gather" in program_costs(text, devices=8).sent


@pytest.mark.parametrize(
    ("mesh", "rows", "width", "axis_name"),
    [
        (mesh_of(1), ROWS, 14, None),
        (mesh_of(8), ROWS + 1, 14, None),
        (mesh_of(8), ROWS, 14, "data"),
        (mesh_of(8, AxisType.Explicit), ROWS, 14, None),
        (jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2), ROWS, 14, None),
        (mesh_of(8), 8 * BALANCE * 14, 14, None),  # far more rows than columns: moments
    ],
)
def test_other_layouts_have_no_tiles(mesh, rows, width, axis_name):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        assert grid_mesh(rows, width, axis_name) is None


def test_no_mesh_is_no_grid():
    assert grid_mesh(ROWS, 14) is None
