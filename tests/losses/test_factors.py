"""A student whose features are a tensor product of factors: the loss of the product, unbuilt."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax import aft_loss
from aft_jax.losses.factors import tensor_product
from tests import reference

WIDTHS = {"text": 4, "image": 3}
KERNELS = pytest.mark.parametrize("kernel", ["linear", "rbf"])

value_and_grads = jax.jit(
    jax.value_and_grad(aft_loss, argnums=(0, 1)), static_argnames=("kernel", "combine")
)


def assert_close(actual, expected, relative):
    """Equal up to `relative` times the largest expected entry."""
    limit = relative * np.max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)


def problem(batch=9, widths=WIDTHS, dtype: Any = np.float64):
    rng = np.random.default_rng(batch)
    factors = {name: rng.normal(size=(batch, d)) + 0.3 for name, d in widths.items()}
    teachers = {name: rng.normal(size=(batch, t)) + 0.5 for name, t in (("a", 5), ("b", 2))}
    scales = {name: rng.normal(size=teacher.shape[1]) for name, teacher in teachers.items()}
    return jax.tree.map(lambda x: x.astype(dtype), (scales, factors, teachers))


def expected_loss(scales, factors, teachers, **options):
    """The reference on the product, which it does build."""
    student = reference.tensor_product(*(factors[name] for name in sorted(factors)))
    return reference.aft_loss(
        [scales[name] for name in sorted(teachers)],
        student,
        [teachers[name] for name in sorted(teachers)],
        **options,
    )


@KERNELS
@pytest.mark.parametrize("combine", ["concat", "product"])
@pytest.mark.parametrize("widths", [WIDTHS, {"text": 2, "image": 3, "audio": 2}])
def test_equals_the_reference_on_the_built_product(kernel, combine, widths, x64):
    scales, factors, teachers = problem(widths=widths)
    options = {"kernel": kernel, "combine": combine}
    loss, (grad_scales, grad_factors) = value_and_grads(scales, factors, teachers, **options)
    assert_close(loss, expected_loss(scales, factors, teachers, **options), 1e-12)
    for name, factor in factors.items():
        numerical = reference.numerical_gradient(
            lambda x, name=name: expected_loss(scales, factors | {name: x}, teachers, **options),
            factor,
        )
        assert_close(grad_factors[name], numerical, 1e-6)
    numerical = reference.numerical_gradient(
        lambda s: expected_loss(scales | {"a": s}, factors, teachers, **options), scales["a"]
    )
    assert_close(grad_scales["a"], numerical, 1e-6)


@pytest.mark.parametrize("batch", [9, 40])  # 40 rows against 14 dimensions: the moment form
def test_one_factor_is_that_array(batch):
    scales, factors, teachers = problem(batch, {"image": 7}, np.float32)
    loss, (grad_scales, grad_factors) = value_and_grads(scales, factors, teachers)
    want, (want_scales, want_student) = value_and_grads(scales, factors["image"], teachers)
    assert loss == want
    jax.tree.map(np.testing.assert_array_equal, grad_scales, want_scales)
    np.testing.assert_array_equal(grad_factors["image"], want_student)


@KERNELS
def test_a_long_batch_of_factors_has_no_moment_form(kernel, x64):
    scales, factors, teachers = problem(40)  # 40 rows against 14 dimensions
    loss, _ = value_and_grads(scales, factors, teachers, kernel=kernel)
    assert_close(loss, expected_loss(scales, factors, teachers, kernel=kernel), 1e-12)


@KERNELS
@pytest.mark.parametrize("combine", ["concat", "product"])
def test_masked_rows_are_as_if_sliced_away(kernel, combine, x64):
    scales, factors, teachers = problem(12)
    mask = np.arange(12) % 3 > 0
    kept = jax.tree.map(lambda x: x[mask], (factors, teachers))
    for features in (*factors.values(), *teachers.values()):
        features[~mask] = np.nan  # padding may hold anything
    options = {"kernel": kernel, "combine": combine}
    loss, grads = value_and_grads(scales, factors, teachers, mask=mask, **options)
    want, (want_scales, want_factors) = value_and_grads(scales, *kept, **options)
    assert_close(loss, want, 1e-12)
    for name, gradient in grads[1].items():
        assert_close(gradient[mask], want_factors[name], 1e-10)
        assert not np.any(gradient[~mask])
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-10), grads[0], want_scales)


def test_rotation_scaling_and_order_change_nothing(x64):
    scales, factors, teachers = problem()
    expected, _ = value_and_grads(scales, factors, teachers)
    rotation, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(4, 4)))
    moved = {"text": 7.0 * factors["text"] @ rotation, "image": -factors["image"]}
    assert_close(value_and_grads(scales, moved, teachers)[0], expected, 1e-8)
    order = np.random.default_rng(6).permutation(9)
    shuffled = jax.tree.map(lambda x: x[order], (factors, teachers))
    assert_close(value_and_grads(scales, *shuffled)[0], expected, 1e-12)


def degenerate(case):
    """Factors and mask at points where a norm or a square root has no derivative."""
    _, factors, _ = problem(5, dtype=np.float32)
    mask = np.ones(5, bool)
    match case:
        case "a zero row in one factor":
            factors["text"][2] = 0
        case "a zero factor":
            factors["text"][:] = 0
        case "no direction in one factor":
            factors["image"][:] = 0.1
        case "tiny":
            factors["image"] *= np.float32(1e-20)
        case "huge":
            factors = {name: np.float32(1e15) * factor for name, factor in factors.items()}
        case "one row left":
            mask[1:] = False
        case "all masked":
            mask[:] = False
    return factors, mask


CASES = (
    *("a zero row in one factor", "a zero factor", "no direction in one factor"),
    *("tiny", "huge", "one row left", "all masked"),
)


@KERNELS
@pytest.mark.parametrize("combine", ["concat", "product"])
@pytest.mark.parametrize("case", CASES)
def test_degenerate_factors_have_finite_gradients(kernel, combine, case):
    scales, _, teachers = problem(5, dtype=np.float32)
    factors, mask = degenerate(case)
    options = {"kernel": kernel, "combine": combine}
    loss, grads = value_and_grads(scales, factors, teachers, mask=mask, **options)
    assert all(np.all(np.isfinite(gradient)) for gradient in jax.tree.leaves(grads))
    if mask.sum() > 1:
        assert loss == pytest.approx(expected_loss(scales, factors, teachers, **options), rel=1e-5)
    else:
        assert loss == pytest.approx(1e-4, rel=1e-6)
        assert not any(np.any(gradient) for gradient in jax.tree.leaves(grads))


@KERNELS
def test_constant_factors_have_no_direction(kernel):
    scales, factors, teachers = problem(7, dtype=np.float32)
    constant = {name: np.full_like(factor, -123.456) for name, factor in factors.items()}
    loss, (_, grad_factors) = value_and_grads(scales, constant, teachers, kernel=kernel)
    # A mean of constants rounds in float64, too: zeros are exact.
    zeros = {name: np.zeros_like(factor) for name, factor in factors.items()}
    assert loss == pytest.approx(expected_loss(scales, zeros, teachers, kernel=kernel), rel=1e-5)
    assert not any(np.any(gradient) for gradient in grad_factors.values())


@KERNELS
def test_half_precision_factors_are_computed_in_float32(kernel):
    scales, factors, teachers = problem(6, dtype=np.float32)
    half = {"image": jnp.asarray(factors["image"], jnp.bfloat16), "text": factors["text"]}
    loss, (_, gradient) = value_and_grads(scales, half, teachers, kernel=kernel)
    assert (loss.dtype, gradient["image"].dtype) == (jnp.float32, jnp.bfloat16)
    rounded = factors | {"image": np.asarray(half["image"], np.float64)}
    assert loss == pytest.approx(expected_loss(scales, rounded, teachers, kernel=kernel), rel=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_feature_gives_a_loss_that_is_noticed(bad):
    scales, factors, teachers = problem(6, dtype=np.float32)
    factors["text"][1, 2] = bad
    assert not np.isfinite(value_and_grads(scales, factors, teachers)[0])


def test_the_built_product_is_row_major_in_order_of_name():
    text, image = jnp.array([[3.0, 4.0, 5.0]]), jnp.array([[1.0, 2.0]])
    assert tensor_product({"text": text, "image": image}).tolist() == [[3, 4, 5, 6, 8, 10]]
    third = {"text": text, "image": image, "video": jnp.array([[1.0, 10.0]])}
    expected = [3, 30, 4, 40, 5, 50, 6, 60, 8, 80, 10, 100]
    assert tensor_product(third).tolist() == [expected]
    assert tensor_product(text).tolist() == [[3, 4, 5]]
    assert tensor_product({"text": text}).tolist() == [[3, 4, 5]]


def test_masked_rows_of_the_built_product_are_zero_and_reach_no_gradient():
    image, text = (jnp.array([[1.0, 2.0], [np.nan, np.inf]]), jnp.array([[3.0], [np.nan]]))
    mask = jnp.array([1.0, 0.0])

    def total(factors):
        product = tensor_product(factors, mask)
        return jnp.sum(product), product

    gradient, product = jax.grad(total, has_aux=True)({"image": image, "text": text})
    assert product.tolist() == [[3, 6], [0, 0]]
    assert gradient["image"].tolist() == [[3, 3], [0, 0]]
    assert gradient["text"].tolist() == [[3], [0]]


def test_names_decide_the_order_not_the_mapping():
    parts = {name: jnp.full((1, 2), i + 1.0) + jnp.arange(2.0)[None] for i, name in enumerate("ab")}
    results = [tensor_product(dict(order)) for order in itertools.permutations(parts.items())]
    assert [result.tolist() for result in results] == [[[2, 3, 4, 6]]] * 2
