"""Logit distillation and B-Tuning: the reference, what they ignore, their errors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.losses.predictions import btune_loss, logit_distillation_loss
from tests import reference
from tests.losses.baselines import problem

compiled = jax.jit(jax.value_and_grad(logit_distillation_loss), static_argnames="temperature")


def value_and_grad(*sides, **options):
    value, gradient = compiled(*sides, **options)
    return float(value), gradient


def logits(batch=6, classes=4):
    rng = np.random.default_rng(0)
    return tuple(3 * rng.normal(size=(batch, classes)) for _ in range(2))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_equals_the_reference(temperature, x64):
    student, teacher = logits()

    def expected(student):
        return reference.logit_distillation_loss(student, teacher, temperature)

    loss, gradient = value_and_grad(student, teacher, temperature=temperature)
    assert loss == pytest.approx(expected(student), rel=1e-12)
    numerical = reference.numerical_gradient(expected, student)
    np.testing.assert_allclose(gradient, numerical, rtol=0, atol=1e-8)


def test_two_classes_by_hand():
    student, teacher = jnp.zeros((1, 2)), jnp.asarray([[np.log(3.0), 0.0]], jnp.float32)
    loss = logit_distillation_loss(student, teacher, temperature=1.0)
    # p = (3/4, 1/4), q = (1/2, 1/2)
    assert loss == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5), rel=1e-6)


def test_a_constant_a_row_changes_nothing(x64):
    student, teacher = logits()
    rows = np.arange(6.0)[:, None]
    want, _ = value_and_grad(student, teacher)
    assert value_and_grad(student + 5 * rows, teacher - rows)[0] == pytest.approx(want, rel=1e-12)


def test_equal_predictions_cost_nothing():
    student = logits()[0].astype(np.float32)
    loss, gradient = value_and_grad(student, student)
    assert loss == 0
    assert np.max(np.abs(gradient)) < 1e-7


def test_masked_rows_are_as_if_sliced_away(x64):
    student, teacher = logits()
    mask = np.array([1, 0, 1, 1, 0, 1])
    want, want_gradient = value_and_grad(student[mask > 0], teacher[mask > 0])
    student[mask == 0], teacher[mask == 0] = np.nan, np.inf
    loss, gradient = value_and_grad(student, teacher, mask=mask)
    assert loss == pytest.approx(want, rel=1e-13)
    np.testing.assert_allclose(gradient[mask > 0], want_gradient, rtol=1e-12)
    assert not np.any(gradient[mask == 0])
    loss, gradient = value_and_grad(student, teacher, mask=np.zeros(6))
    assert loss == 0
    assert not np.any(gradient)


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_extreme_logits_give_finite_gradients(temperature):
    student = np.asarray([[1e4, -1e4, 0], [0, 0, 0]], np.float32)
    loss, gradient = value_and_grad(student, -student, temperature=temperature)
    assert np.isfinite(loss)
    assert np.all(np.isfinite(gradient))


def test_half_precision_is_computed_in_float32():
    student, teacher = (jnp.asarray(side, jnp.bfloat16) for side in logits())
    loss, gradient = compiled(student, teacher)
    assert (loss.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    student, teacher = (np.asarray(side, np.float64) for side in (student, teacher))
    expected = reference.logit_distillation_loss(student, teacher, temperature=4.0)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_teachers_get_no_gradient():
    student, teacher = (jnp.asarray(side, jnp.float32) for side in logits())
    assert not np.any(jax.grad(logit_distillation_loss, argnums=1)(student, teacher))
    params, student, teachers = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float32), problem("btune")
    )
    gradient = jax.grad(lambda teachers: btune_loss(*params_of(params), student, teachers))(
        teachers
    )
    assert not any(np.any(leaf) for leaf in gradient.values())


def params_of(params):
    return params["student_weights"], params["teacher_weights"], params["scores"]


def test_a_far_better_teacher_is_the_only_one(x64):
    params, student, teachers = jax.tree.map(jnp.asarray, problem("btune"))
    params["scores"] = {"a": 0.0, "b": 10.0}
    alone = {kind: {"b": params[kind]["b"]} for kind in ("teacher_weights", "scores")}
    want = btune_loss(*params_of(params | alone), student, {"b": teachers["b"]})
    assert btune_loss(*params_of(params), student, teachers) == pytest.approx(float(want))
    even = btune_loss(*params_of(params), student, teachers, temperature=1e9)
    target = sum(teachers[name] @ params["teacher_weights"][name].T / 2 for name in "ab")
    expected = np.mean((student @ params["student_weights"].T - target) ** 2)
    assert even == pytest.approx(float(expected), rel=1e-6)


def rejected(message, function, *arguments, **options):
    with pytest.raises(ValueError, match=re.escape(message)):
        function(*arguments, **options)


def test_logits_that_do_not_fit_are_refused(unchecked_shapes):
    student, teacher = map(jnp.asarray, logits())
    message = "student and teacher score the same examples and classes: teacher_logits has shape "
    rejected(message + "(6, 4); got (6, 3)", logit_distillation_loss, student, teacher[:, :3])
    for temperature in (0.0, -1.0, float("nan")):
        message = f"temperature is positive; got {temperature}"
        rejected(message, logit_distillation_loss, student, teacher, temperature=temperature)
    message = "mask has one entry a row, shape (6,); got shape (5,)"
    rejected(message, logit_distillation_loss, student, teacher, mask=jnp.ones(5))


def test_posteriors_that_do_not_fit_are_refused(unchecked_shapes):
    params, student, teachers = jax.tree.map(jnp.asarray, problem("btune"))
    own, theirs, scores = params_of(params)
    rule = "posterior weights are [classes, width], the same classes for student and teachers: "
    message = rule + "student_weights has shape (3, 5); got (3, 4)."
    rejected(message, btune_loss, own[:, :4], theirs, scores, student, teachers)
    message = rule + "teacher_weights['b'] has shape (3, 4); got (2, 4)."
    fewer = theirs | {"b": theirs["b"][:2]}
    rejected(message, btune_loss, own, fewer, scores, student, teachers)
    message = "teacher_features names ['a', 'b'], scores ['a']."
    rejected(message, btune_loss, own, theirs, {"a": scores["a"]}, student, teachers)
    message = "teacher_features names ['a'], teacher_weights ['a', 'b']."
    rejected(message, btune_loss, own, theirs, scores, student, {"a": teachers["a"]})
