"""Every error of the loss, its scales and its regularizers, by its message."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax import aft_loss, gates, init_dense_scales, init_scales
from aft_jax.losses.factors import tensor_product
from aft_jax.losses.maps import ft_loss, kd_loss, kkd_loss, no_kernel_loss
from aft_jax.losses.regularizer import REGULARIZERS, make_regularizer
from aft_jax.losses.relations import cka_loss, spkd_loss
from aft_jax.losses.rkd import rkd_loss

STUDENT = np.ones((4, 2), np.float32)
TEACHER = np.ones((4, 3), np.float32)
SCALES = np.zeros(3, np.float32)
NAMED = {"a": TEACHER, "b": TEACHER}
NAMED_SCALES = {"a": SCALES, "b": SCALES}


def rejected(error, message, *arguments, **options):
    with pytest.raises(error, match=re.escape(message)):
        aft_loss(*arguments, **options)


@pytest.mark.parametrize(
    ("message", "scales", "student", "teachers"),
    [
        (
            "hold the same examples, row by row; got batch sizes "
            "{'student_features': 3, 'teacher_features': 4}. Join the features on example id",
            SCALES,
            STUDENT[:3],
            TEACHER,
        ),
        (
            "got batch sizes {'student_features': 4, \"teacher_features['a']\": 4, "
            "\"teacher_features['b']\": 2}",
            NAMED_SCALES,
            STUDENT,
            {"a": TEACHER, "b": TEACHER[:2]},
        ),
        (
            "vector an example; student_features has shape (4, 2, 5). Pool over tokens or pixels",
            SCALES,
            np.ones((4, 2, 5), np.float32),
            TEACHER,
        ),
        ("teacher_features has shape (4,)", SCALES, STUDENT, TEACHER[:, 0]),
        (
            "at least one row and one column; student_features has (0, 2)",
            SCALES,
            STUDENT[:0],
            TEACHER[:0],
        ),
        (
            "at least one row and one column; teacher_features['a'] has (4, 0)",
            {"a": SCALES[:0]},
            STUDENT,
            {"a": TEACHER[:, :0]},
        ),
        (
            "got batch sizes {\"student_features['image']\": 4, \"student_features['text']\": 3, "
            "'teacher_features': 4}",
            SCALES,
            {"text": STUDENT[:3], "image": STUDENT},
            TEACHER,
        ),
        ("student_features['text'] has shape (4,)", SCALES, {"text": STUDENT[:, 0]}, TEACHER),
        (
            "at least one row and one column; student_features['image'] has (4, 0)",
            SCALES,
            {"image": STUDENT[:, :0], "text": STUDENT},
            TEACHER,
        ),
        (
            "student_features as a mapping has at least one factor; got an empty mapping. "
            "Pass one [batch, width] array, or name -> array",
            SCALES,
            {},
            TEACHER,
        ),
        (
            "teacher_features needs at least one teacher; got an empty mapping",
            {},
            STUDENT,
            {},
        ),
        (
            "teacher_features names ['a', 'b'], scales name ['a']. "
            "Missing in scales: ['b']; without features: []",
            {"a": SCALES},
            STUDENT,
            NAMED,
        ),
        (
            "teacher_features names ['a'], scales name ['a', 'b']. "
            "Missing in scales: []; without features: ['b']",
            NAMED_SCALES,
            STUDENT,
            {"a": TEACHER},
        ),
        (
            "got scales for ['a', 'b'] and teacher_features as one array. Pass teacher_features as",
            NAMED_SCALES,
            STUDENT,
            TEACHER,
        ),
        (
            "got one array of scales and teachers ['a', 'b']. Use init_scales with the mapping",
            SCALES,
            STUDENT,
            NAMED,
        ),
        (
            "one logit a feature, shape (3,), or a matrix with 3 rows; scales has shape (2,). "
            "Use init_scales",
            SCALES[:2],
            STUDENT,
            TEACHER,
        ),
        ("scales has shape (2, 3)", np.ones((2, 3), np.float32), STUDENT, TEACHER),
        ("scales has shape ()", np.float32(0), STUDENT, TEACHER),
        (
            "scales['b'] has shape (1, 1, 1)",
            {"a": SCALES, "b": np.zeros((1, 1, 1), np.float32)},
            STUDENT,
            NAMED,
        ),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_shapes_and_names_that_do_not_fit(message, scales, student, teachers):
    rejected(ValueError, message, scales, student, teachers)


@pytest.mark.parametrize(
    ("message", "scales", "student", "teachers"),
    [
        (
            "floating point (float32, bfloat16, ...); teacher_features has dtype int32. "
            "Token ids and labels are not features",
            SCALES,
            STUDENT,
            TEACHER.astype(np.int32),
        ),
        ("student_features has dtype bool", SCALES, STUDENT > 0, TEACHER),
        (
            "student_features['text'] has dtype bool",
            SCALES,
            {"image": STUDENT, "text": STUDENT > 0},
            TEACHER,
        ),
        (
            "one factor of a student's, are one array; student_features['image'] is a mapping. "
            "Flatten it.",
            SCALES,
            {"image": {"cls": STUDENT}},
            TEACHER,
        ),
        ("scales are floating point; scales has dtype int32", SCALES.astype(int), STUDENT, TEACHER),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_dtypes_that_do_not_fit(message, scales, student, teachers):
    rejected(TypeError, message, scales, student, teachers)


@pytest.mark.usefixtures("unchecked_shapes")
def test_unknown_choices_list_the_known():
    arguments = (SCALES, STUDENT, TEACHER)
    rejected(ValueError, "kernel is one of 'linear', 'rbf'; got 'RBF'", *arguments, kernel="RBF")
    rejected(
        ValueError, "combine is one of 'concat', 'product'; got 'sum'", *arguments, combine="sum"
    )


@pytest.mark.usefixtures("unchecked_shapes")
def test_masks_that_do_not_fit():
    arguments = (SCALES, STUDENT, TEACHER)
    message = "mask has one entry a row, shape (4,); got shape "
    rejected(ValueError, f"{message}(3,)", *arguments, mask=np.ones(3, bool))
    rejected(ValueError, f"{message}(4, 1)", *arguments, mask=np.ones((4, 1), bool))
    message = "mask is bool or 0/1; got dtype complex64"
    rejected(TypeError, message, *arguments, mask=np.ones(4, np.complex64))


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_tensor_product_has_factors():
    with pytest.raises(ValueError, match="has at least one factor; got an empty mapping"):
        tensor_product({})


@pytest.mark.parametrize("init", [init_scales, init_dense_scales])
@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ({}, "at least one teacher; got an empty mapping of feature widths"),
        ({"a": 0}, "a positive integer; teacher 'a' has 0. Pass features.shape[-1]"),
        ({"a": 3, "b": "3"}, "teacher 'b' has '3'"),
        ({"a": True}, "teacher 'a' has True"),
        ({"a": 3.0}, "teacher 'a' has 3.0"),
        (-1, "a positive integer; teacher 'teacher' has -1"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_widths_that_are_none(init, dims, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        init(dims)


def test_dense_scales_have_no_gates():
    with pytest.raises(
        ValueError, match=re.escape("got shape (2, 2). Dense scales are a linear map")
    ):
        gates({"a": jnp.eye(2)})


def test_unknown_methods_list_the_known():
    listed = re.escape(f"method is one of {', '.join(REGULARIZERS)}; got 'afd'.")
    with pytest.raises(ValueError, match=listed):
        make_regularizer("afd")
    message = re.escape("scales is one of 'diagonal', 'dense', 'uniform'; got 'full'.")
    with pytest.raises(ValueError, match=message):
        make_regularizer("aft", scales="full")


def layer(rows, columns):
    return {"weight": np.ones((rows, columns), np.float32), "bias": np.ones(columns, np.float32)}


@pytest.mark.parametrize(
    ("message", "loss", "arguments"),
    [
        ("weight [d, t] and a bias, as wide", kd_loss, layer(3, 3)),
        ("on its two sides: weight has shape (2, 3); got (2, 4).", kd_loss, layer(2, 4)),
        ("weight [d, e] and", kkd_loss, layer(3, 2)),
        ("weight [t, d] and", no_kernel_loss, layer(2, 3)),
        (
            "on its two sides: bias has shape (3,); got (2,).",
            kd_loss,
            {"weight": layer(2, 3)["weight"], "bias": layer(2, 2)["bias"]},
        ),
        (
            "weight [in, out] and a bias, as wide as the features on its two sides: "
            "second weight has shape (2, 3); got (3, 2).",
            ft_loss,
            {"params": {"first": layer(2, 2), "second": layer(3, 2), "third": layer(3, 3)}},
        ),
    ],
)
def test_maps_that_do_not_fit_the_features_are_refused(message, loss, arguments, unchecked_shapes):
    with pytest.raises(ValueError, match=re.escape(message)):
        loss(**arguments, student_features=STUDENT, teacher_features=TEACHER)


@pytest.mark.parametrize("loss", [rkd_loss, spkd_loss, cka_loss])
def test_the_baselines_check_their_features_as_aft_does(loss, unchecked_shapes):
    with pytest.raises(
        ValueError, match=re.escape("hold the same examples, row by row; got batch")
    ):
        loss(STUDENT[:3], TEACHER)
    with pytest.raises(TypeError, match="teacher_features has dtype int32"):
        loss(STUDENT, TEACHER.astype(np.int32))
    with pytest.raises(ValueError, match="teacher_features needs at least one teacher"):
        loss(STUDENT, {})
    with pytest.raises(ValueError, match="at least one factor; got an empty mapping"):
        loss({}, TEACHER)
    with pytest.raises(ValueError, match=re.escape("mask has one entry a row, shape (4,)")):
        loss(STUDENT, TEACHER, mask=np.ones(3))
