"""RKD, SPKD and CKA: what they ignore, their corner values, and what their programs hold."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.losses import angles
from aft_jax.losses.relations import cka_loss, spkd_loss
from aft_jax.losses.rkd import rkd_loss
from tests import reference

LOSSES = {"rkd": rkd_loss, "spkd": spkd_loss, "cka": cka_loss}
relations = pytest.mark.parametrize("name", LOSSES)
batches = pytest.mark.parametrize("batch", [11, 20])  # 20 rows against 13 dimensions: by moments


def features(batch=11, d=6, t=7):
    rng = np.random.default_rng(batch)
    return rng.normal(size=(batch, d)) + 0.3, rng.normal(size=(batch, t)) - 0.2


def value_and_gradient(name, student, teacher, **options):
    def loss(student, teacher):
        return LOSSES[name](student, teacher, **options)

    value, gradient = jax.jit(jax.value_and_grad(loss))(student, teacher)
    return float(value), gradient


@relations
@batches
def test_rotations_and_scales_change_nothing(name, batch, x64):
    student, teacher = features(batch)
    want, _ = value_and_gradient(name, student, teacher)
    rotation, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(6, 6)))
    shift = 0 if name == "spkd" else np.arange(6.0)  # it does not centre
    loss, _ = value_and_gradient(name, 7.0 * student @ rotation + shift, teacher)
    assert loss == pytest.approx(want, rel=1e-10)
    loss, _ = value_and_gradient(name, student, 1e-3 * teacher + (0 if name == "spkd" else 5.0))
    assert loss == pytest.approx(want, rel=1e-10)


@relations
@batches
def test_the_same_relations_cost_nothing(name, batch):
    student = features(batch)[0].astype(np.float32)
    loss, gradient = value_and_gradient(name, student, np.concatenate([student] * 3, axis=1))
    assert abs(loss) < 1e-6
    assert np.max(np.abs(gradient)) < 1e-5


def test_rkd_gives_the_teachers_no_gradient():
    student, teacher = (jnp.asarray(side, jnp.float32) for side in features())
    gradient = jax.jit(jax.grad(rkd_loss, argnums=1))(student, {"a": teacher, "b": teacher})
    assert not any(np.any(leaf) for leaf in gradient.values())


@batches
@pytest.mark.parametrize("side", ["student", "teacher", "both"])
def test_cka_without_a_direction_is_one(side, batch):
    student, teacher = (side.astype(np.float32) for side in features(batch))
    if side != "teacher":
        student[:] = 0.1
    if side != "student":
        teacher[:] = -123.456
    loss, gradient = value_and_gradient("cka", student, teacher)
    assert loss == 1
    assert not np.any(gradient)


def test_a_student_without_kernel_is_one_unit_row_away_at_every_row():
    teacher = features()[1].astype(np.float32)
    loss, gradient = value_and_gradient("spkd", np.zeros((11, 6), np.float32), teacher)
    assert loss == pytest.approx(1 / 11, rel=1e-6)
    assert not np.any(gradient)


def test_equal_students_have_neither_distances_nor_angles():
    teacher = features()[1].astype(np.float32)
    constant = np.full((11, 6), 0.1, np.float32)
    loss, gradient = value_and_gradient("rkd", constant, teacher)
    assert loss == pytest.approx(reference.rkd_loss(np.zeros((11, 6)), teacher), rel=1e-5)
    assert not np.any(gradient)


@pytest.mark.parametrize("width", [6, 1000])
def test_equal_rows_are_equal_in_spite_of_rounding(width):
    rng = np.random.default_rng(0)
    student = (rng.normal(size=(40, width)) + 3).astype(np.float32)
    student[20:] = student[:20]
    teacher = rng.normal(size=(40, 5)).astype(np.float32)
    loss, gradient = value_and_gradient("rkd", student, teacher)
    assert loss == pytest.approx(reference.rkd_loss(student, teacher), rel=1e-5)
    with jax.enable_x64(True):
        _, want = value_and_gradient("rkd", student.astype(np.float64), teacher.astype(np.float64))
    np.testing.assert_allclose(gradient, want, rtol=0, atol=1e-4 * np.max(np.abs(want)))


@pytest.mark.parametrize("distance", [1e-1, 1e-2, 1e-3, 1e-4])
def test_rows_near_each_other_are_no_catastrophe(distance):
    student, teacher = (side.astype(np.float32) for side in features())
    student[1] = student[0] + np.float32(distance) * np.eye(6, dtype=np.float32)[2]
    loss, gradient = value_and_gradient("rkd", student, teacher)
    # Two of 11^2 distances, and as many angles for every third row, are all that may be lost.
    expected = reference.rkd_loss(student, teacher)
    assert loss == pytest.approx(expected, rel=1e-3 if distance > 5e-3 else 0.05)
    assert np.max(np.abs(gradient)) < 10 / distance


def test_distances_and_angles_are_weighed(x64):
    student, teacher = features()
    for weight in (0.0, 0.5):
        loss, _ = value_and_gradient("rkd", student, teacher, angle_weight=weight)
        assert loss == pytest.approx(reference.rkd_loss(student, teacher, weight), rel=1e-12)


@pytest.mark.parametrize("rows", [1, 3, 4, 64])  # 11 steps; 4 with a row of padding; 3; 1
def test_blocks_of_any_size_add_up(rows, x64, monkeypatch):
    monkeypatch.setattr(angles, "BLOCK_ENTRIES", 1)
    monkeypatch.setattr(angles, "BLOCK_ROWS", rows)
    student, teacher = map(jnp.asarray, features())
    loss, gradient = value_and_gradient("rkd", student, teacher)
    assert loss == pytest.approx(reference.rkd_loss(student, teacher), rel=1e-12)
    assert rkd_loss(student, teacher) == pytest.approx(loss, rel=1e-14)  # the value alone
    numerical = reference.numerical_gradient(lambda x: reference.rkd_loss(x, teacher), student)
    np.testing.assert_allclose(gradient, numerical, rtol=0, atol=1e-8)


def largest_array(loss, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.jit(jax.value_and_grad(loss)).lower(*arguments).as_text()
    found = re.findall(r"tensor<((?:\d+x)+)f32>", text)
    return max(math.prod(int(n) for n in shape.strip("x").split("x")) for shape in found)


@relations
def test_no_array_is_wider_than_the_features_or_a_block(name):
    batch = 96
    largest = largest_array(LOSSES[name], (batch, 400), (batch, 700))
    allowed = max(batch * 700, angles.BLOCK_ENTRIES, angles.BLOCK_ROWS * batch**2)
    assert largest <= (allowed if name == "rkd" else batch * 700)
    assert batch**2 * 400 > 10 * allowed


@relations
def test_a_students_tensor_product_is_never_built(name):
    def loss(image, text, teacher):
        return LOSSES[name]({"image": image, "text": text}, teacher)

    largest = largest_array(loss, (32, 300), (32, 300), (32, 200))
    assert largest <= max(32 * 300, 32**3)


def test_products_are_asked_for_in_full_precision():
    for loss in LOSSES.values():
        shape = jax.ShapeDtypeStruct((24, 7), jnp.float32)
        text = jax.jit(jax.grad(loss)).lower(shape, shape).as_text()
        precisions = re.findall(r"dot_general.*precision = \[(\w+), (\w+)\]", text)
        assert set(precisions) == {("HIGHEST", "HIGHEST")}
        assert len(precisions) == text.count("stablehlo.dot_general")
