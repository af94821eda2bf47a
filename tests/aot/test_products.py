import itertools

import pytest

from aft_jax.aot.hlo import parse
from aft_jax.aot.products import Window, passes, product_flops, windows


def product(left: str, right: str, line: str):
    text = (
        f"ENTRY %main (x: f32[2], y: f32[2]) -> f32[2] {{\n  %x = {left} parameter(0)\n"
        f"  %y = {right} parameter(1)\n  ROOT %out = {line}\n}}\n"
    )
    inside = parse(text).computations["main"]
    return inside.root, inside


@pytest.mark.parametrize(
    ("left", "right", "line", "flops"),
    [
        (
            "bf16[50,30]{1,0}",
            "bf16[30,70]{1,0}",
            "bf16[50,70]{1,0} convolution(%x, %y), dim_labels=bf_io->bf",
            2 * 50 * 30 * 70,
        ),
        (  # the gradient by the right factor
            "f32[30,50]{1,0}",
            "f32[30,70]{1,0}",
            "f32[50,70]{1,0} convolution(%x, %y), dim_labels=fb_io->bf",
            2 * 50 * 30 * 70,
        ),
        (  # a product for each of 4 x 3 pairs, as a TPU has it: 4 rows, 3 heads
            "f32[4,3,5,7]{3,2,1,0}",
            "f32[4,3,11,7]{3,2,1,0}",
            "f32[4,3,5,11]{3,2,1,0} convolution(%x, %y), "
            "window={size=4x3 stride=3x2 lhs_dilate=4x3}, dim_labels=01bf_01oi->01bf",
            2 * 4 * 3 * 5 * 11 * 7,
        ),
        (  # a kernel of 3 x 3 on 6 x 6 pixels with a border of zeros
            "f32[2,6,6,4]{3,2,1,0}",
            "f32[3,3,4,8]{3,2,1,0}",
            "f32[2,6,6,8]{3,2,1,0} convolution(%x, %y), window={size=3x3 pad=1_1x1_1}, "
            "dim_labels=b01f_01io->b01f",
            2 * 2 * 4 * 8 * 16 * 16,  # along each axis 6 outputs meet 3, but for 2 that meet 2
        ),
        (
            "f32[5,6,7]{2,1,0}",
            "f32[5,7,8]{2,1,0}",
            "f32[5,6,8]{2,1,0} dot(%x, %y), lhs_batch_dims={0}, lhs_contracting_dims={2}, "
            "rhs_batch_dims={0}, rhs_contracting_dims={1}",
            2 * 5 * 6 * 7 * 8,
        ),
        ("f32[5]{0}", "f32[5]{0}", "f32[5]{0} add(%x, %y)", 0),
    ],
)
def test_flops_of_a_product(left, right, line, flops):
    assert product_flops(*product(left, right, line)) == flops


def meetings(window: Window, inputs: int, outputs: int) -> int:
    places = {place * window.dilation for place in range(inputs)}
    return sum(
        out * window.stride - window.padding + place * window.kernel_dilation in places
        for out, place in itertools.product(range(outputs), range(window.size))
    )


@pytest.mark.parametrize(
    ("window", "inputs", "outputs"),
    [
        (Window(3, 1, 1, 1, 1), 6, 6),
        (Window(4, 3, 0, 4, 1), 4, 4),
        (Window(2, 2, 1, 3, 2), 5, 7),
        (Window(7, 2, 3, 1, 1), 9, 5),
        (Window(3, 1, -1, 1, 1), 6, 2),
    ],
)
def test_meetings_are_those_of_a_count_by_hand(window, inputs, outputs):
    assert window.meetings(inputs, outputs) == meetings(window, inputs, outputs)


def test_windows_have_defaults():
    assert windows("size=3x2 stride=2x1 pad=1_0x0_0") == [
        Window(3, 2, 1, 1, 1),
        Window(2, 1, 0, 1, 1),
    ]
    assert windows("") == []


@pytest.mark.parametrize(
    ("dtype", "precision", "count"),
    [
        ("f32", "", 1),
        ("f32", ", operand_precision={high,high}", 3),
        ("f32", ", operand_precision={highest,highest}", 6),
        ("bf16", ", operand_precision={highest,highest}", 1),
    ],
)
def test_passes_of_a_float32_product(dtype, precision, count):
    line = f"{dtype}[5,7]{{1,0}} convolution(%x, %y), dim_labels=bf_io->bf{precision}"
    assert passes(*product(f"{dtype}[5,6]{{1,0}}", f"{dtype}[6,7]{{1,0}}", line)) == count


def test_a_convolution_without_labels_is_refused():
    line = "f32[5,7]{1,0} convolution(%x, %y)"
    with pytest.raises(ValueError, match="a convolution has dim_labels"):
        product_flops(*product("f32[5,6]{1,0}", "f32[6,7]{1,0}", line))
