"""Finite gradients and the right loss where a norm or a square root has no derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax import aft_loss
from aft_jax.losses.rows import centred_unit_rows
from tests import reference
from tests.losses.blocks import pairs_in_blocks

VARIANTS = [(kernel, combine) for kernel in ("linear", "rbf") for combine in ("concat", "product")]
variants = pytest.mark.parametrize(("kernel", "combine"), VARIANTS)
# 37 rows against 12 dimensions: the moment form. 41, and 128: kernels without moments in blocks.
batches = pytest.mark.parametrize("batch", [3, 37, 41])


@pytest.fixture(autouse=True, scope="module")
def longer_batches_in_blocks():
    with pairs_in_blocks(rows=16, many=37**2):
        yield


gradients_of = jax.jit(
    jax.value_and_grad(aft_loss, argnums=(0, 1, 2)), static_argnames=("kernel", "combine")
)


def integers(seed, batch, width):
    """Pairs of opposite rows of small whole numbers, then ones: their sums are exact."""
    half = np.random.default_rng(seed).integers(1, 5, size=(batch // 2, width))
    return np.concatenate([half, -half, np.ones((1, width))]).astype(np.float32)


def problem(batch, d=4, widths=(3, 5)):
    rng = np.random.default_rng(batch)
    student = rng.normal(size=(batch, d)).astype(np.float32)
    teachers = {
        name: (rng.normal(size=(batch, t)) + 0.5).astype(np.float32)
        for name, t in zip("ab", widths, strict=True)
    }
    return student, teachers


def finite_loss(student, teachers, kernel, combine, scales=None, mask=None):
    """The loss and its gradients (scales, student, teachers), after seeing that all are finite."""
    if scales is None:
        scales = {
            name: np.zeros(teacher.shape[1], np.float32) for name, teacher in teachers.items()
        }
    if mask is None:  # always passed, so that a shape is compiled once
        mask = np.ones(student.shape[0], bool)
    loss, grads = gradients_of(scales, student, teachers, kernel=kernel, combine=combine, mask=mask)
    assert loss.dtype == jnp.float32
    assert np.isfinite(loss)
    for grad in jax.tree.leaves(grads):
        assert np.all(np.isfinite(grad))
    return float(loss), grads


def expected_loss(student, teachers, kernel, combine):
    """The reference at zero logits."""
    scales = [np.zeros(teacher.shape[1]) for teacher in teachers.values()]
    doubles = [np.asarray(teacher, np.float64) for teacher in teachers.values()]
    return reference.aft_loss(scales, np.asarray(student, np.float64), doubles, kernel, combine)


def all_zero(tree):
    return not any(np.any(leaf) for leaf in jax.tree.leaves(tree))


@variants
@batches
@pytest.mark.parametrize("where", ["student", "teacher", "both"])
def test_rows_that_equal_the_mean(where, kernel, combine, batch):
    student = integers(0, batch, 4)
    teachers = {"a": integers(1, batch, 3), "b": integers(2, batch, 5)}
    teachers["b"] = np.abs(teachers["b"])  # so that the tensor product has opposite rows, too
    if combine == "concat":
        teachers["b"][:] = 1
    if where != "teacher":
        student[-1] = 0
    if where != "student":
        teachers["a"][-1] = 0
    loss, _ = finite_loss(student, teachers, kernel, combine)
    assert loss == pytest.approx(expected_loss(student, teachers, kernel, combine), rel=1e-5)


@variants
@pytest.mark.parametrize("batch", [3, 37, 128])
@pytest.mark.parametrize("constant", [0.0, 0.1, -123.456])
def test_a_student_without_any_direction(kernel, combine, batch, constant):
    _, teachers = problem(batch)
    student = np.full((batch, 4), constant, np.float32)
    loss, (_, grad_student, grad_teachers) = finite_loss(student, teachers, kernel, combine)
    # A mean of constants rounds in float64, too, and leaves directions of noise: zeros are exact.
    expected = expected_loss(np.zeros((batch, 4)), teachers, kernel, combine)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert all_zero(grad_student)
    assert not all_zero(grad_teachers)


@variants
@pytest.mark.parametrize("batch", [3, 37, 128])
def test_teachers_without_any_direction(kernel, combine, batch):
    student, teachers = problem(batch)
    constant = {name: np.full_like(teacher, 0.1) for name, teacher in teachers.items()}
    loss, (grad_scales, grad_student, grad_teachers) = finite_loss(
        student, constant, kernel, combine
    )
    zeros = {name: np.zeros_like(teacher) for name, teacher in teachers.items()}
    assert loss == pytest.approx(expected_loss(student, zeros, kernel, combine), rel=1e-5)
    assert all_zero([grad_scales, grad_teachers])
    assert not all_zero(grad_student)


@variants
def test_a_batch_of_one(kernel, combine):
    loss, grads = finite_loss(*problem(1), kernel, combine)
    assert loss == pytest.approx(1e-4, rel=1e-6)
    assert all_zero(grads)


@variants
@batches
def test_a_fully_masked_batch(kernel, combine, batch):
    loss, grads = finite_loss(*problem(batch), kernel, combine, mask=np.zeros(batch, bool))
    assert loss == pytest.approx(1e-4, rel=1e-6)
    assert all_zero(grads)


@variants
@batches
def test_nan_in_padding(kernel, combine, batch):
    student, teachers = problem(batch)
    mask = np.arange(batch) % 3 > 0
    kept = {name: teacher[mask] for name, teacher in teachers.items()}
    expected = expected_loss(student[mask], kept, kernel, combine)
    for features in (student, *teachers.values()):
        features[~mask] = np.nan
    loss, (_, grad_student, grad_teachers) = finite_loss(
        student, teachers, kernel, combine, mask=mask
    )
    assert loss == pytest.approx(expected, rel=1e-5)
    assert all_zero([grad[~mask] for grad in (grad_student, *grad_teachers.values())])


@variants
@batches
def test_equal_kernels(kernel, combine, batch):
    _, teachers = problem(batch)
    half = [teacher / 2 for teacher in teachers.values()]  # what gates at zero logits make of them
    if combine == "concat":
        student = np.concatenate(half, axis=1)
    else:
        student = reference.tensor_product(*half).astype(np.float32)
    loss, _ = finite_loss(student, teachers, kernel, combine)
    assert 0.999e-4 <= loss <= 1e-3


@variants
@batches
@pytest.mark.parametrize("where", ["student", "teacher", "both"])
def test_huge_features_count_like_those_of_order_one(where, kernel, combine, batch):
    student, teachers = problem(batch)
    expected = expected_loss(student, teachers, kernel, combine)
    if where != "teacher":
        student = np.float32(1e20) * student
    if where != "student":
        teachers = {name: np.float32(1e20) * teacher for name, teacher in teachers.items()}
    loss, _ = finite_loss(student, teachers, kernel, combine)
    assert loss == pytest.approx(expected, rel=1e-5)


@variants
@batches
@pytest.mark.parametrize("where", ["student", "teacher", "both"])
@pytest.mark.parametrize("magnitude", [1e-8, 1e-20, 1e-40])  # at, below and far below the epsilon
def test_tiny_features_fade_into_the_epsilon(magnitude, where, kernel, combine, batch):
    student, teachers = problem(batch)
    if where != "teacher":
        student = np.float32(magnitude) * student
    if where != "student":
        teachers = {name: np.float32(magnitude) * teacher for name, teacher in teachers.items()}
    loss, _ = finite_loss(student, teachers, kernel, combine)
    assert loss == pytest.approx(expected_loss(student, teachers, kernel, combine), rel=1e-5)


@pytest.mark.parametrize("magnitude", [1e20, 1.0, 1e-8, 1e-20])
def test_unit_rows_add_the_epsilon_at_any_magnitude(magnitude):
    features = np.float32(magnitude) * problem(3)[0]
    rows = jax.jit(centred_unit_rows)(features, jnp.ones(3))
    expected = reference.unit_rows(features.astype(np.float64))
    assert np.max(np.abs(rows - expected)) <= 1e-6 * np.max(np.abs(expected))


@variants
@batches
@pytest.mark.parametrize("magnitude", [1e-40, 1e20])  # 1e-40 is no normal number in float32
def test_one_row_of_another_magnitude(magnitude, kernel, combine, batch):
    student, teachers = problem(batch)
    student[2] *= np.float32(magnitude)
    teachers["a"][1] *= np.float32(magnitude)
    loss, _ = finite_loss(student, teachers, kernel, combine)
    assert loss == pytest.approx(expected_loss(student, teachers, kernel, combine), rel=1e-4)


@pytest.mark.parametrize(
    ("dtype", "kernel", "combine"),
    [(jnp.bfloat16, "linear", "product"), (jnp.float16, "rbf", "concat")],
)
def test_half_precision_features_are_computed_in_float32(dtype, kernel, combine):
    student, teachers = jax.tree.map(lambda x: jnp.asarray(x, dtype), problem(3))
    loss, (_, grad_student, _) = finite_loss(student, teachers, kernel, combine)
    assert grad_student.dtype == dtype
    assert loss == pytest.approx(expected_loss(student, teachers, kernel, combine), rel=1e-5)


@variants
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_saturated_gates(logit, kernel, combine):
    student, teachers = problem(3)
    scales = {name: np.full(x.shape[1], logit, np.float32) for name, x in teachers.items()}
    loss, (grad_scales, _, _) = finite_loss(student, teachers, kernel, combine, scales)
    gated = {name: x * (logit > 0) for name, x in teachers.items()}
    assert loss == pytest.approx(expected_loss(student, gated, kernel, combine), rel=1e-5)
    assert all_zero(grad_scales)


@variants
@batches
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["student", "teacher"])
def test_one_bad_feature_gives_a_loss_that_is_noticed(kernel, combine, batch, bad, where):
    """Not a finite number that looks like a loss: NaN is no zero row."""
    student, teachers = problem(batch)
    (student if where == "student" else teachers["a"])[1, 2] = bad
    scales = {name: np.zeros(teacher.shape[1], np.float32) for name, teacher in teachers.items()}
    mask = np.ones(batch, bool)
    loss, _ = gradients_of(scales, student, teachers, kernel=kernel, combine=combine, mask=mask)
    assert not np.isfinite(loss)
