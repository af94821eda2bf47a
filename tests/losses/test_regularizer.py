"""Every method in the table behaves as the seam promises."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax import aft_loss
from aft_jax.losses.map_parameters import MAPLESS, init_ft_map
from aft_jax.losses.maps import ft_loss
from aft_jax.losses.regularizer import REGULARIZERS, make_regularizer
from aft_jax.types import FeatureSpec
from tests import reference
from tests.losses.baselines import CASES as BASELINES

SPEC = FeatureSpec(student_dim=4, teacher_dims={"b": 5, "a": 3})
methods = pytest.mark.parametrize("method", REGULARIZERS)

PARAMETER_SHAPES = {
    "stl": {},
    "aft": {"scales": {"a": (3,), "b": (5,)}},
    "aft_rbf": {"scales": {"a": (3,), "b": (5,)}},
    "aft_dense": {"scales": {"a": (3, 3), "b": (5, 5)}},
    "aft_uniform": {},
    "aft_no_kernel": {"weight": (8, 4), "bias": (4,)},
    "kkd": {"weight": (4, 4), "bias": (4,)},
    "kd": {"weight": (4, 8), "bias": (8,)},
    "rkd": {},
    "spkd": {},
    "cka": {},
}


def features(batch=7):
    rng = np.random.default_rng(0)
    student = rng.normal(size=(batch, SPEC.student_dim)).astype(np.float32)
    teachers = {
        name: rng.normal(size=(batch, width)).astype(np.float32)
        for name, width in SPEC.teacher_dims.items()
    }
    return student, teachers


def gradients_of(regularizer):
    """((scalar, metrics), (gradient of params, of student features)), compiled."""
    return jax.jit(jax.value_and_grad(regularizer.apply, argnums=(0, 1), has_aux=True))


def assert_trees_close(actual, expected):
    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    jax.tree.map(close, actual, expected)


@methods
def test_parameters_have_the_promised_shapes(method):
    params = make_regularizer(method).init(jax.random.key(0), SPEC)
    assert jax.tree.map(jnp.shape, params) == PARAMETER_SHAPES[method]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@methods
def test_padding_is_as_if_sliced_away(method):
    regularizer = make_regularizer(method)
    params = regularizer.init(jax.random.key(0), SPEC)
    student, teachers = features()
    mask = np.asarray([1, 1, 0, 1, 1, 0, 1], np.float32)
    kept = mask > 0
    sliced = {name: teacher[kept] for name, teacher in teachers.items()}
    (expected, _), (want_params, want_student) = gradients_of(regularizer)(
        params, student[kept], sliced
    )
    for array in (student, *teachers.values()):
        array[~kept] = np.nan  # padding may hold anything
    (loss, metrics), (grad_params, grad_student) = gradients_of(regularizer)(
        params, student, teachers, mask=mask
    )
    assert_trees_close(loss, expected)
    assert_trees_close(grad_params, want_params)
    assert_trees_close(grad_student[kept], want_student)
    assert not np.any(grad_student[~kept])
    if method == "stl":
        assert metrics == {}
    else:
        assert_trees_close(metrics, {"regularizer": (5 * expected, jnp.float32(5))})


@methods
@pytest.mark.parametrize("dtype", [jnp.bool_, jnp.float32])
def test_masks_are_bool_or_float(method, dtype):
    regularizer = make_regularizer(method)
    params = regularizer.init(jax.random.key(0), SPEC)
    student, teachers = features()
    mask = jax.ShapeDtypeStruct((7,), dtype)
    loss, metrics = jax.eval_shape(regularizer.apply, params, student, teachers, mask=mask)
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, metrics))} == {jnp.dtype(jnp.float32)}


@methods
@pytest.mark.parametrize("masked", [False, True])
def test_factors_are_their_tensor_product(method, masked):
    regularizer = make_regularizer(method)
    params = regularizer.init(jax.random.key(0), SPEC)
    wide, teachers = features()
    factors = {"text": wide[:, 2:], "image": wide[:, :2]}
    built = reference.tensor_product(factors["image"], factors["text"]).astype(np.float32)
    mask = np.asarray([1, 1, 0, 1, 1, 0, 1], np.float32) if masked else np.ones(7, np.float32)
    (expected, want), (want_params, _) = gradients_of(regularizer)(
        params, built, teachers, mask=mask
    )
    for factor in factors.values():
        factor[mask == 0] = np.nan  # padding may hold anything
    (loss, metrics), (grad_params, grad_factors) = gradients_of(regularizer)(
        params, factors, teachers, mask=mask if masked else None
    )
    assert_trees_close((loss, metrics), (expected, want))
    assert_trees_close(grad_params, want_params)
    for gradient in grad_factors.values():
        assert np.all(np.isfinite(gradient))
        assert not np.any(gradient[mask == 0])
        assert np.any(gradient) == (method != "stl")


@pytest.mark.parametrize(
    ("method", "options", "arguments"),
    [
        ("aft", {}, {}),
        ("aft", {"combine": "product"}, {"combine": "product"}),
        ("aft_rbf", {}, {"kernel": "rbf"}),
        ("aft_dense", {}, {}),
        ("aft_uniform", {}, {}),
    ],
)
def test_the_kernel_methods_are_the_loss(method, options, arguments):
    regularizer = make_regularizer(method, **options)
    student, teachers = features()
    params = regularizer.init(jax.random.key(0), SPEC)
    params = jax.tree.map(lambda leaf: leaf + 0.3, params)
    (loss, metrics), _ = gradients_of(regularizer)(params, student, teachers)
    expected = jax.jit(lambda: aft_loss(params.get("scales"), student, teachers, **arguments))()
    assert_trees_close(loss, expected)
    assert_trees_close(metrics["regularizer"], (7 * expected, jnp.float32(7)))


@pytest.mark.parametrize("method", ["kkd", "kd", "rkd", "spkd", "cka"])
def test_the_baselines_are_their_losses(method):
    regularizer = make_regularizer(method)
    student, teachers = features()
    params = regularizer.init(jax.random.key(0), SPEC)
    (loss, metrics), _ = gradients_of(regularizer)(params, student, teachers)
    doubles = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, student, teachers))
    expected = np.float32(BASELINES[method].expected(*doubles))
    assert_trees_close(loss, expected)
    assert_trees_close(metrics["regularizer"], (7 * expected, np.float32(7)))


def test_angles_may_be_left_out():
    student, teachers = features()
    regularizer = make_regularizer("rkd", angle_weight=0.0)
    loss, _ = jax.jit(regularizer.apply)({}, student, teachers)
    expected = reference.rkd_loss(student, np.concatenate([*teachers.values()][::-1], axis=1), 0.0)
    assert_trees_close(loss, np.float32(expected))


WIDE = 2**14 + 1


@pytest.mark.parametrize(
    ("method", "student", "teacher", "shape"),
    [
        ("kkd", WIDE, 3, "16,385 x 16,385 = 268,468,225"),
        ("kd", 512 * 512, 2048, "262,144 x 2,048 = 536,870,912"),
        ("aft_no_kernel", 512 * 512, 2048, "2,048 x 262,144 = 536,870,912"),
    ],
)
def test_maps_too_large_to_learn_are_refused(method, student, teacher, shape):
    spec = FeatureSpec(student, {"a": teacher - 1, "b": 1})
    init = make_regularizer(method).init
    message = f"at most 2^28 = 268,435,456 weights; {method!r} would need {shape} for these"
    with pytest.raises(ValueError, match=re.escape(message)):
        init(jax.random.key(0), spec)
    mapless = "Methods without a map work at any width: aft, aft_rbf, aft_uniform, rkd, spkd, cka."
    with pytest.raises(ValueError, match=re.escape(mapless)):
        init(jax.random.key(0), spec)


@pytest.mark.parametrize("method", MAPLESS)
def test_methods_without_a_map_have_nothing_as_wide_as_the_student(method):
    spec = FeatureSpec(2**20, {"a": 3})
    params = make_regularizer(method).init(jax.random.key(0), spec)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) <= 3


@pytest.mark.parametrize(("d", "t"), [(WIDE, 4), (2**15, 2**13 + 1), (4, WIDE)])
def test_factor_transfer_is_refused_by_each_of_its_layers(d, t):
    with pytest.raises(ValueError, match="'ft' would need"):
        init_ft_map(jax.random.key(0), d, t)


def test_factor_transfer_starts_with_a_direction_that_ignores_the_student():
    params = init_ft_map(jax.random.key(0), 4, 9)
    assert jax.tree.map(jnp.shape, params) == {
        "first": {"weight": (4, 4), "bias": (4,)},
        "second": {"weight": (4, 9), "bias": (9,)},
        "third": {"weight": (9, 9), "bias": (9,)},
    }
    assert not np.any(params["third"]["weight"])
    bias = np.asarray(params["third"]["bias"])
    assert 0.05 < np.std(bias) < np.max(np.abs(bias)) <= 1 / 3
    student = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    teacher = np.random.default_rng(1).normal(size=(5, 9)).astype(np.float32)
    loss, gradient = jax.value_and_grad(ft_loss)(params, jnp.asarray(student), teacher)
    units = (side / np.linalg.norm(side, axis=-1, keepdims=True) for side in (bias[None], teacher))
    assert loss == pytest.approx(np.mean(np.sum(np.abs(np.subtract(*units)), axis=1)), rel=1e-5)
    assert np.any(gradient["third"]["weight"])
    assert max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(gradient)) < 100


def test_plain_fine_tuning_is_zero_and_reads_nothing():
    regularizer = make_regularizer("stl")
    loss, metrics = regularizer.apply(regularizer.init(jax.random.key(0), SPEC), None, None)
    assert (float(loss), loss.dtype, metrics) == (0.0, jnp.float32, {})


@pytest.mark.parametrize(("method", "fan_in"), [("aft_no_kernel", 8), ("kkd", 4), ("kd", 4)])
def test_the_linear_map_starts_from_its_key(method, fan_in):
    init = make_regularizer(method).init
    first, again, other = (init(jax.random.key(seed), SPEC)["weight"] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert 0.5 < np.std(first) * np.sqrt(fan_in) < 1.6  # variance 1 / fan-in


def test_the_linear_map_reads_teachers_in_order_of_name():
    regularizer = make_regularizer("aft_no_kernel")
    params = regularizer.init(jax.random.key(0), SPEC)
    student, teachers = features()
    joined = np.concatenate([teachers["a"], teachers["b"]], axis=1)
    difference = student - joined @ np.asarray(params["weight"])
    expected = np.mean((difference - difference.mean(axis=0)) ** 2)
    for order in ("ab", "ba"):
        named = {name: jnp.asarray(teachers[name]) for name in order}
        # A closure, because jit sorts the names of its arguments.
        loss, _ = jax.jit(
            lambda named=named: regularizer.apply(params, jnp.asarray(student), named)
        )()
        assert_trees_close(loss, expected)


@pytest.mark.parametrize("weight", [-1.0, float("inf")])
def test_the_weight_of_angles_is_a_number(weight):
    with pytest.raises(ValueError, match="angle_weight is a finite number, at least 0; got"):
        make_regularizer("rkd", angle_weight=weight)
