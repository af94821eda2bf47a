"""What the lowered programs hold: no array and no product that the mathematics can do without."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp

from aft_jax import aft_loss


def lowered(batch, student_width, teacher_widths, gradient=True, **options: Any):
    """StableHLO of the loss, or of its value and gradients with respect to scales and student.

    `student_width` is a number, or name -> number for the factors of a tensor product.
    """

    def shape(*dims):
        return jax.ShapeDtypeStruct(dims, jnp.float32)

    def loss(scales, student, teachers):
        return aft_loss(scales, student, teachers, **options)

    names = [f"t{i}" for i in range(len(teacher_widths))]
    widths = dict(zip(names, teacher_widths, strict=True))
    function = jax.value_and_grad(loss, argnums=(0, 1)) if gradient else loss
    return jax.jit(function).lower(
        {name: shape(width) for name, width in widths.items()},
        jax.tree.map(lambda width: shape(batch, width), student_width),
        {name: shape(batch, width) for name, width in widths.items()},
    )


def array_shapes(program):
    """Every array shape in a lowered program."""
    found = re.findall(r"tensor<((?:\d+x)+)[a-z]+\d+>", program.as_text())
    return {tuple(int(n) for n in shape.strip("x").split("x")) for shape in found}


def products(program):
    """The shapes ((left), (right)) of every matrix product, in order."""
    lines = [line for line in program.as_text().splitlines() if "stablehlo.dot_general" in line]
    operands = [re.search(r": \(tensor<(\w+)xf32>, tensor<(\w+)xf32>\)", line) for line in lines]
    return [match.groups() for match in operands if match]


def test_linear_kernels_take_two_products_forward_and_two_backward():
    forward = [("13x5", "13x5"), ("13x11", "13x11")]
    backward = [("13x13", "13x11"), ("13x13", "13x5")]
    assert products(lowered(13, 5, [11], gradient=False)) == forward
    assert products(lowered(13, 5, [11])) == forward + backward
    # Their transposes are flags of the compiled products: no array is moved for them.
    compiled = str(lowered(13, 5, [11]).compile().as_text())
    assert not re.search(r"= f32\[\d+,\d+\]\S* (transpose|copy)\(", compiled)


def test_nothing_is_computed_for_teachers_without_scales():
    def loss(student, teacher):
        return aft_loss(None, student, teacher)

    shape = jax.ShapeDtypeStruct
    arguments = shape((13, 5), jnp.float32), shape((13, 11), jnp.float32)
    forward = [("13x5", "13x5"), ("13x11", "13x11")]
    backward = [("13x13", "13x5")]
    assert products(jax.jit(jax.value_and_grad(loss)).lower(*arguments)) == forward + backward


def test_the_moment_form_takes_three_products_forward_and_four_backward():
    forward = [("5x37", "37x5"), ("11x37", "37x11"), ("5x37", "37x11")]
    backward = [("5x11", "5x37"), ("5x11", "37x11"), ("37x11", "11x11"), ("37x5", "5x5")]
    assert products(lowered(37, 5, [11], gradient=False)) == forward
    assert products(lowered(37, 5, [11])) == forward + backward


def test_every_product_is_asked_for_in_full_precision():
    # On a GPU or TPU the default would round the operands to tf32 or bfloat16.
    for batch in (13, 37):
        cases: list[dict[str, Any]] = [{}, {"kernel": "rbf"}, {"combine": "product"}]
        for options in cases:
            text = lowered(batch, 5, [7, 4], **options).as_text()
            precisions = re.findall(r"dot_general.*precision = \[(\w+), (\w+)\]", text)
            assert precisions
            assert set(precisions) == {("HIGHEST", "HIGHEST")}
            assert len(precisions) == text.count("stablehlo.dot_general")


def test_rbf_builds_no_differences_of_rows():
    shapes = array_shapes(lowered(13, 5, [11], kernel="rbf"))
    assert max(len(shape) for shape in shapes) == 2
    assert max(math.prod(shape) for shape in shapes) == 13 * 13


def test_the_tensor_product_is_never_built():
    shapes = array_shapes(lowered(32, 1024, [512, 512], combine="product"))
    assert (32, 1024) in shapes
    assert max(4 * math.prod(shape) for shape in shapes) <= 2**20
    assert not any(512 * 512 in shape for shape in shapes)


def test_a_students_tensor_product_is_never_built():
    for gradient in (False, True):
        factors = {"image": 512, "text": 512}
        for options in ({}, {"kernel": "rbf", "combine": "product"}):
            shapes = array_shapes(lowered(32, factors, [256, 128], gradient, **options))
            assert max(math.prod(shape) for shape in shapes) == 32 * 512
