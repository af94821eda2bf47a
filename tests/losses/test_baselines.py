"""What every loss that AFT is compared with promises: published values, the reference, masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference
from tests.losses.baselines import CASES, GOLDEN, joined, problem

cases = pytest.mark.parametrize("name", CASES)
PUBLISHED = [name for name, case in CASES.items() if case.golden]


@functools.cache
def compiled(name):
    def loss(params, student, teachers, mask):
        return CASES[name].loss(params, student, teachers, mask=mask)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def value_and_grads(name, params, student, teachers, mask=None):
    """(value, (gradient of params, of student)), compiled once a shape."""
    return compiled(name)(params, student, teachers, mask)


def assert_close(actual, expected, relative):
    """Equal up to `relative` times the largest expected entry."""
    expected = np.asarray(expected)
    limit = relative * np.max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)


def doubles(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def as_float32(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("double", [True, False])
def test_equals_published_values(name, double):
    relative, make = (1e-10, lambda x: x) if double else (1e-5, as_float32)
    teacher = GOLDEN["inputs/teacher_kkd" if name == "kkd" else "inputs/teacher"]
    teachers = {"a": teacher[:, :7], "b": teacher[:, 7:]}
    golden = CASES[name].golden
    assert golden is not None
    arguments = make((golden("param"), GOLDEN["inputs/student"], teachers))
    with jax.enable_x64(double):
        loss, (grad_params, grad_student) = value_and_grads(name, *arguments)
    assert loss.dtype == (jnp.float64 if double else jnp.float32)
    assert_close(loss, GOLDEN[f"{name}/loss"], relative)
    assert_close(grad_student, GOLDEN[f"{name}/grad_student"], relative)
    want = golden("grad_param")
    if name in ("kkd", "aft_no_kernel"):
        # Centring makes the bias irrelevant: its published gradient is rounding error.
        assert np.max(np.abs(grad_params.pop("bias"))) < (1e-14 if double else 1e-5)
        want.pop("bias")
    if want:
        jax.tree.map(lambda a, b: assert_close(a, b, relative), grad_params, want)


@cases
@pytest.mark.parametrize("batch", [9, 16])  # 16 rows against 12 dimensions: CKA by moments
def test_equals_the_reference(name, batch, x64):
    params, student, teachers = problem(name, batch)
    loss, (grad_params, grad_student) = value_and_grads(name, params, student, teachers)
    expected = CASES[name].expected
    assert_close(loss, expected(params, student, teachers), 1e-12)
    numerical = reference.numerical_gradient(lambda x: expected(params, x, teachers), student)
    assert_close(grad_student, numerical, 1e-6)
    if "weight" in params:
        numerical = reference.numerical_gradient(
            lambda w: expected(params | {"weight": w}, student, teachers), params["weight"]
        )
        assert_close(grad_params["weight"], numerical, 1e-6)


@cases
def test_equals_the_reference_in_float32(name):
    params, student, teachers = as_float32(problem(name, 12))
    loss, _ = value_and_grads(name, params, student, teachers)
    assert loss.dtype == jnp.float32
    assert_close(loss, CASES[name].expected(params, student, teachers), 1e-5)


@cases
def test_half_precision_is_computed_in_float32(name):
    params, student, teachers = as_float32(problem(name))
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), (student, teachers))
    loss, (grad_params, grad_student) = value_and_grads(name, params, *half)
    assert (loss.dtype, grad_student.dtype) == (jnp.float32, jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(grad_params)} <= {np.dtype(np.float32)}
    student, teachers = doubles(half)
    assert_close(loss, CASES[name].expected(params, student, teachers), 1e-5)


@cases
@pytest.mark.parametrize("batch", [10, 20])
def test_masked_rows_are_as_if_sliced_away(name, batch, x64):
    params, student, teachers = problem(name, batch)
    mask = np.arange(batch) % 4 != 1
    kept = {teacher: array[mask] for teacher, array in teachers.items()}
    want, (want_params, want_student) = value_and_grads(name, params, student[mask], kept)
    for array in (student, *teachers.values()):
        array[~mask] = np.nan  # padding may hold anything
    loss, (grad_params, grad_student) = value_and_grads(name, params, student, teachers, mask=mask)
    assert_close(loss, want, 1e-12)
    assert_close(grad_student[mask], want_student, 1e-10)
    assert not np.any(grad_student[~mask])
    for have, wanted in zip(*map(jax.tree.leaves, (grad_params, want_params)), strict=True):
        np.testing.assert_allclose(have, wanted, rtol=1e-9, atol=1e-13)


@cases
def test_the_order_of_the_batch_does_not_matter(name, x64):
    params, student, teachers = problem(name)
    order = np.random.default_rng(1).permutation(9)
    shuffled = {teacher: array[order] for teacher, array in teachers.items()}
    loss, _ = value_and_grads(name, params, student[order], shuffled)
    want, _ = value_and_grads(name, params, student, teachers)
    assert_close(loss, want, 1e-12)


@pytest.mark.parametrize("name", [name for name in CASES if name != "btune"])
def test_teachers_are_concatenated_in_order_of_name(name, x64):
    params, student, teachers = problem(name)
    named, _ = value_and_grads(name, params, student, teachers)
    one, _ = value_and_grads(name, params, student, joined(teachers))
    assert_close(named, one, 1e-14)


@cases
def test_factors_are_their_tensor_product(name, x64):
    params, wide, teachers = problem(name, d=6)
    rng = np.random.default_rng(2)
    factors = {"text": rng.normal(size=(9, 3)) + 0.2, "image": rng.normal(size=(9, 2))}
    built = reference.tensor_product(factors["image"], factors["text"])
    assert built.shape == wide.shape
    mask = np.arange(9) != 4
    for factor in factors.values():
        factor[~mask] = np.nan
    loss, (_, grads) = value_and_grads(name, params, factors, teachers, mask=mask)
    kept = {teacher: array[mask] for teacher, array in teachers.items()}
    expected = CASES[name].expected
    assert_close(loss, expected(params, built[mask], kept), 1e-11)

    def of_text(text):
        return expected(params, reference.tensor_product(factors["image"][mask], text), kept)

    numerical = reference.numerical_gradient(of_text, factors["text"][mask])
    assert_close(grads["text"][mask], numerical, 1e-6)
    assert not np.any(grads["text"][~mask])


DEGENERATE = (
    *("one row", "all masked", "equal rows", "equal student rows", "equal teacher rows"),
    *("zero student", "zero teachers", "two equal rows", "a zero row", "huge", "tiny", "constant"),
)


def degenerate(what, student, teachers, mask):
    """Changes the arrays in place to a point where a norm or a square root has no derivative."""
    sides = {"student": [student], "teacher": [*teachers.values()]}
    sides["both"] = [*sides["student"], *sides["teacher"]]
    match what:
        case "one row":
            mask[1:] = False
        case "all masked":
            mask[:] = False
        case "equal rows" | "equal student rows" | "equal teacher rows":
            for array in sides[what.split()[1] if what != "equal rows" else "both"]:
                array[:] = array[0]
        case "zero student":
            student[:] = 0
        case "zero teachers":
            for array in sides["teacher"]:
                array[:] = 0
        case "two equal rows":
            student[3], teachers["a"][5], teachers["b"][5] = (
                *(student[2], teachers["a"][6]),
                teachers["b"][6],
            )
        case "a zero row":
            student[3] = 0
            for array in sides["teacher"]:
                array[5] = 0
        case "huge" | "tiny":
            for array in sides["both"]:
                array *= np.float32(1e15 if what == "huge" else 1e-25)
        case "constant":
            for array in sides["both"]:
                array[:] = np.float32(-123.456)


@cases
@pytest.mark.parametrize("what", DEGENERATE)
@pytest.mark.parametrize("batch", [7, 15])  # 15 rows against 12 dimensions: CKA by moments
def test_degenerate_features_give_finite_losses_and_gradients(name, what, batch):
    params, student, teachers = as_float32(problem(name, batch))
    mask = np.ones(batch, bool)
    degenerate(what, student, teachers, mask)
    loss, grads = value_and_grads(name, params, student, teachers, mask=mask)
    assert np.isfinite(loss)
    for leaf in jax.tree.leaves(grads):
        assert np.all(np.isfinite(leaf))
    if what in ("two equal rows", "a zero row", "huge", "tiny"):
        expected = CASES[name].expected(*doubles((params, student, teachers)))
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-12)
    if what == "all masked":
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))


@cases
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_feature_gives_a_loss_that_is_noticed(name, bad):
    """Not a finite number that looks like a loss."""
    params, student, teachers = as_float32(problem(name))
    student[1, 2] = bad
    loss, _ = value_and_grads(name, params, student, teachers)
    assert not np.isfinite(loss)


@cases
def test_second_derivatives_are_finite_differences_of_the_first(name, x64):
    params, student, teachers = jax.tree.map(jnp.asarray, problem(name))
    loss = CASES[name].loss
    direction = np.random.default_rng(3).normal(size=student.shape)
    gradient = jax.jit(jax.grad(lambda x: loss(params, x, teachers)))
    curved = jax.jit(jax.grad(lambda x: jnp.vdot(gradient(x), direction)))(student)
    step = 1e-6
    after, before = (gradient(student + sign * step * direction) for sign in (1, -1))
    difference = np.asarray(after - before) / (2 * step)
    limit = 1e-5 * max(np.max(np.abs(difference)), 1e-3)
    np.testing.assert_allclose(curved, difference, rtol=0, atol=limit)
