"""The loss in blocks of its kernels: the same number, the same derivatives, bounded memory."""

from typing import Any

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from aft_jax import aft_loss
from tests import reference
from tests.losses.blocks import pairs_in_blocks
from tests.losses.test_structure import array_shapes, lowered, products

VARIANTS = [("rbf", "concat"), ("linear", "product"), ("rbf", "product")]
variants = pytest.mark.parametrize(("kernel", "combine"), VARIANTS)


def problem(batch, factors=False):
    rng = np.random.default_rng(batch)
    scales = {"a": rng.normal(size=3), "b": rng.normal(size=5)}
    student = {"image": rng.normal(size=(batch, 2)), "text": rng.normal(size=(batch, 4)) + 0.3}
    teachers = {"a": rng.normal(size=(batch, 3)) + 0.5, "b": rng.normal(size=(batch, 5))}
    mask = rng.random(batch) < 0.8
    return scales, student if factors else student["text"], teachers, mask


@variants
@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize("batch", [12, 37])
def test_blocks_equal_the_reference(kernel, combine, factors, batch, x64):
    scales, student, teachers, mask = problem(batch, factors)
    built = reference.tensor_product(*student.values()) if isinstance(student, dict) else student
    kept = [teacher[mask] for teacher in teachers.values()]
    expected = reference.aft_loss(list(scales.values()), built[mask], kept, kernel, combine)
    with pairs_in_blocks():
        loss = jax.jit(aft_loss, static_argnames=("kernel", "combine"))
        found = loss(scales, student, teachers, kernel=kernel, combine=combine, mask=mask)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("combine", ["concat", "product"])
def test_masked_rows_beside_rows_without_direction(combine, x64):
    """exp(-|x - y|^2) of two zero rows is 1 and of a zero row and a unit row is not."""
    scales, student, teachers, mask = problem(12)
    kept = [teacher[mask] for teacher in teachers.values()]
    zeros = np.zeros_like(student)
    expected = reference.aft_loss(list(scales.values()), zeros[mask], kept, "rbf", combine)
    with pairs_in_blocks():
        found = aft_loss(scales, zeros, teachers, kernel="rbf", combine=combine, mask=mask)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("kernel", "combine", "factors"), [("rbf", "concat", False), ("linear", "product", True)]
)
def test_derivatives_in_blocks(kernel, combine, factors, x64):
    *arguments, mask = problem(5, factors)

    @jax.jit
    def loss(*arguments):
        return aft_loss(*arguments, kernel=kernel, combine=combine, mask=mask)

    with pairs_in_blocks(rows=2):
        check_grads(loss, arguments, order=2, modes=["rev"])


@variants
def test_no_array_is_as_long_as_the_batch_is_squared(kernel, combine):
    options = {"kernel": kernel, "combine": combine}
    with pairs_in_blocks(rows=8):
        shapes = array_shapes(lowered(64, 5, [7, 11], **options))
    assert (64, 8) in shapes
    assert not [shape for shape in shapes if shape.count(64) > 1]
    assert (64, 64) in array_shapes(lowered(64, 5, [7, 11], **options))


def test_linear_kernels_of_one_teacher_are_never_cut():
    with pairs_in_blocks():
        assert "while" not in lowered(13, 5, [11]).as_text()


def test_blocks_take_their_products_again_backward():
    with pairs_in_blocks(rows=8):
        program = lowered(64, 5, [7], kernel="rbf")
    forward = [("64x5", "8x5"), ("64x7", "8x7")]
    backward = [*forward, ("64x8", "8x7"), ("64x8", "8x5")]
    assert sorted(products(program)) == sorted(forward + backward)


@variants
def test_temporaries_grow_with_the_batch_and_not_with_its_square(kernel, combine):
    def temporaries(batch):
        program = lowered(batch, {"image": 4, "text": 4}, [4, 4], kernel=kernel, combine=combine)
        memory: Any = program.compile().memory_analysis()
        return memory.temp_size_in_bytes

    with pairs_in_blocks(rows=16):
        short, long = temporaries(256), temporaries(1024)
    # Kernels would take 16 times as much.
    assert long <= 4.5 * short
    # One kernel alone takes 4 MiB, and a loss several.
    assert long <= 2**21
    assert temporaries(1024) >= 2**23
