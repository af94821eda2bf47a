"""AFT against the published values, the NumPy reference, and what must hold for any input."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax import aft_loss, gates, init_dense_scales, init_scales
from aft_jax.losses.maps import no_kernel_loss
from tests import reference

GOLDEN = np.load(
    pathlib.Path(__file__).parents[1] / "golden" / "official_float64.npz", allow_pickle=False
)
STUDENT, TEACHER = GOLDEN["inputs/student"], GOLDEN["inputs/teacher"]
SPLIT = int(GOLDEN["inputs/teacher_dims"][0])

loss_of = jax.jit(aft_loss, static_argnames=("kernel", "combine"))


def assert_close(actual, expected, relative):
    """Equal up to `relative` times the largest expected entry."""
    expected = np.asarray(expected)
    difference = np.max(np.abs(np.asarray(actual) - expected))
    assert difference <= relative * np.max(np.abs(expected)), difference


def golden_value_and_grads(row, dtype):
    student, teacher = jnp.asarray(STUDENT, dtype), jnp.asarray(TEACHER, dtype)
    scales = jnp.asarray(GOLDEN[f"{row}/param/s"], dtype)
    kernel = "rbf" if "rbf" in row else "linear"

    def loss(scales, student):
        if row != "aft_tensor_product":
            return loss_of(scales, student, teacher, kernel=kernel)
        named = {"a": teacher[:, :SPLIT], "b": teacher[:, SPLIT:]}
        return loss_of(
            {"a": scales[:SPLIT], "b": scales[SPLIT:]}, student, named, combine="product"
        )

    return jax.value_and_grad(loss, argnums=(0, 1))(scales, student)


GOLDEN_ROWS = [
    "aft_linear_zeros",
    "aft_linear_random",
    "aft_rbf_zeros",
    "aft_rbf_random",
    "aft_dense",
    "aft_tensor_product",
]


@pytest.mark.parametrize("row", GOLDEN_ROWS)
def test_equals_published_values_in_float64(row, x64):
    loss, (grad_scales, grad_student) = golden_value_and_grads(row, jnp.float64)
    assert_close(loss, GOLDEN[f"{row}/loss"], 1e-10)
    assert_close(grad_scales, GOLDEN[f"{row}/grad_param/s"], 1e-10)
    assert_close(grad_student, GOLDEN[f"{row}/grad_student"], 1e-10)


@pytest.mark.parametrize("row", GOLDEN_ROWS)
def test_equals_published_values_in_float32(row):
    loss, (grad_scales, grad_student) = golden_value_and_grads(row, jnp.float32)
    assert loss.dtype == jnp.float32
    assert_close(loss, GOLDEN[f"{row}/loss"], 1e-5)
    assert_close(grad_scales, GOLDEN[f"{row}/grad_param/s"], 1e-5)
    assert_close(grad_student, GOLDEN[f"{row}/grad_student"], 1e-5)


def test_the_published_tensor_product_may_be_the_student(x64):
    """R does not tell its two sides apart: gated teachers as factors give the same numbers."""
    scales = jnp.asarray(GOLDEN["aft_tensor_product/param/s"])

    def loss(scales, single):
        gated = jnp.asarray(TEACHER) * jax.nn.sigmoid(scales)[None]
        return aft_loss(None, {"a": gated[:, :SPLIT], "b": gated[:, SPLIT:]}, single)

    value, grads = jax.jit(jax.value_and_grad(loss, (0, 1)))(scales, jnp.asarray(STUDENT))
    assert_close(value, GOLDEN["aft_tensor_product/loss"], 1e-10)
    assert_close(grads[0], GOLDEN["aft_tensor_product/grad_param/s"], 1e-10)
    assert_close(grads[1], GOLDEN["aft_tensor_product/grad_student"], 1e-10)


@pytest.mark.parametrize(("double", "relative"), [(True, 1e-10), (False, 1e-5)])
def test_no_kernel_ablation_equals_published_values(double, relative):
    with jax.enable_x64(double):
        weight = jnp.asarray(GOLDEN["aft_no_kernel/param/proj.weight"].T)
        bias = jnp.asarray(GOLDEN["aft_no_kernel/param/proj.bias"])
        loss, grads = jax.value_and_grad(no_kernel_loss, argnums=(0, 1, 2))(
            weight, bias, jnp.asarray(STUDENT), jnp.asarray(TEACHER)
        )
    assert_close(loss, GOLDEN["aft_no_kernel/loss"], relative)
    assert_close(grads[0], GOLDEN["aft_no_kernel/grad_param/proj.weight"].T, relative)
    assert_close(grads[2], GOLDEN["aft_no_kernel/grad_student"], relative)
    # Centring makes the bias irrelevant: its published gradient is rounding error.
    assert np.max(np.abs(grads[1])) < (1e-14 if double else 1e-5)


def random_problem(seed, batch=12, widths=(5, 9), d=6):
    rng = np.random.default_rng(seed)
    student = rng.normal(size=(batch, d)) + 0.3
    teachers = {f"t{i}": rng.normal(size=(batch, t)) + 0.5 for i, t in enumerate(widths)}
    scales = {name: rng.normal(size=teacher.shape[1]) for name, teacher in teachers.items()}
    return scales, student, teachers


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("combine", ["concat", "product"])
@pytest.mark.parametrize("kind", ["diagonal", "dense", "uniform"])
def test_equals_reference(kernel, combine, kind, x64):
    scales, student, teachers = random_problem(0)
    if kind == "dense":
        rng = np.random.default_rng(1)
        scales = {name: rng.normal(size=(s.shape[0], 4)) for name, s in scales.items()}
    listed = [None] * 2 if kind == "uniform" else list(scales.values())

    def expected(student, first=listed[0]):
        scales = [first, *listed[1:]]
        return reference.aft_loss(scales, student, list(teachers.values()), kernel, combine)

    loss, (grad_scales, grad_student) = jax.value_and_grad(loss_of, argnums=(0, 1))(
        None if kind == "uniform" else jax.tree.map(jnp.asarray, scales),
        jnp.asarray(student),
        jax.tree.map(jnp.asarray, teachers),
        kernel=kernel,
        combine=combine,
    )
    assert_close(loss, expected(student), 1e-12)
    assert_close(grad_student, reference.numerical_gradient(expected, student), 1e-7)
    if kind != "uniform":
        numerical = reference.numerical_gradient(lambda s: expected(student, s), listed[0])
        assert_close(grad_scales["t0"], numerical, 1e-6)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("combine", ["concat", "product"])
@pytest.mark.parametrize("batch", [9, 40])  # 40 rows against 20 dimensions: the moment form
def test_second_derivatives(kernel, combine, batch, x64):
    point = jax.tree.map(jnp.asarray, random_problem(2, batch))
    direction = jax.tree.map(jnp.asarray, random_problem(3, batch))
    gradient = jax.jit(
        jax.grad(lambda args: aft_loss(*args, kernel=kernel, combine=combine))  # all arguments
    )
    product = jax.jit(
        jax.grad(
            lambda args: sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient(args), direction)))
        )
    )
    step = 1e-5
    after = gradient(jax.tree.map(lambda x, v: x + step * v, point, direction))
    before = gradient(jax.tree.map(lambda x, v: x - step * v, point, direction))
    numerical = jax.tree.map(lambda a, b: (a - b) / (2 * step), after, before)
    jax.tree.map(lambda a, n: assert_close(a, n, 1e-5), product(point), numerical)


def test_student_rotation_scaling_and_shift_change_nothing(x64):
    scales, student, teachers = random_problem(3)
    rotation, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(6, 6)))
    moved = 7.0 * student @ rotation + np.arange(6.0)
    assert_close(loss_of(scales, moved, teachers), loss_of(scales, student, teachers), 1e-8)


def test_each_row_of_the_teacher_kernel_ignores_its_length(x64):
    scales, student, teachers = random_problem(3)
    doubled = {name: 2.0 * teacher for name, teacher in teachers.items()}
    assert_close(loss_of(scales, student, doubled), loss_of(scales, student, teachers), 1e-8)


@pytest.mark.parametrize("combine", ["concat", "product"])
def test_batch_order_does_not_matter(combine, x64):
    scales, student, teachers = random_problem(5)
    order = np.random.default_rng(6).permutation(12)
    shuffled = {name: teacher[order] for name, teacher in teachers.items()}
    assert_close(
        loss_of(scales, student[order], shuffled, combine=combine),
        loss_of(scales, student, teachers, combine=combine),
        1e-12,
    )


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("combine", ["concat", "product"])
@pytest.mark.parametrize("batch", [12, 60])
def test_masked_rows_are_as_if_sliced_away(kernel, combine, batch, x64):
    scales, student, teachers = random_problem(7, batch)
    mask = np.random.default_rng(8).random(batch) < 0.7
    student[~mask] = np.nan  # padding may hold anything
    kept = {name: teacher[mask] for name, teacher in teachers.items()}

    def masked(scales, student):
        return loss_of(scales, student, teachers, kernel=kernel, combine=combine, mask=mask)

    def sliced(scales, student):
        return loss_of(scales, student, kept, kernel=kernel, combine=combine)

    loss, (grad_scales, grad_student) = jax.value_and_grad(masked, (0, 1))(scales, student)
    expected, (want_scales, want_student) = jax.value_and_grad(sliced, (0, 1))(
        scales, student[mask]
    )
    assert_close(loss, expected, 1e-12)
    assert_close(grad_student[mask], want_student, 1e-10)
    assert not np.any(grad_student[~mask])
    for name in scales:
        assert_close(grad_scales[name], want_scales[name], 1e-10)


def test_concatenation_is_one_wide_teacher(x64):
    scales, student, teachers = random_problem(9)
    joined = loss_of(
        np.concatenate(list(scales.values())),
        student,
        np.concatenate(list(teachers.values()), axis=1),
    )
    assert_close(loss_of(scales, student, teachers), joined, 1e-12)


def test_a_closed_gate_removes_a_teacher(x64):
    scales, student, teachers = random_problem(10)
    scales["t1"] = np.full(9, -200.0)
    alone = loss_of(scales["t0"], student, teachers["t0"])
    assert_close(loss_of(scales, student, teachers), alone, 1e-12)


def test_equal_features_give_the_floor(x64):
    _, student, _ = random_problem(11)
    assert_close(loss_of(None, student, student), 1e-4, 1e-12)


def test_initial_scales_are_half_open_gates_and_identities():
    scales = init_scales({"a": 3, "b": np.int64(2)})
    assert {name: gate.tolist() for name, gate in gates(scales).items()} == {
        "a": [0.5, 0.5, 0.5],
        "b": [0.5, 0.5],
    }
    assert init_dense_scales(2).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert init_scales(4).shape == (4,)
