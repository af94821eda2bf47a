"""Floating point operations of matrix products and convolutions in a compiled program.

On a TPU every product is a convolution: batch dimensions become spatial ones that are dilated so
far that each output meets one input. What meets padding or a hole of the dilation is not counted.
"""

import math
import re
from typing import NamedTuple

import numpy as np

from aft_jax.aot.hlo import Computation, Instruction

PASSES = {"highest": 6, "high": 3}
"""Products of bfloat16 that one of float32 takes at a precision; see `jax.lax.Precision`."""


class Window(NamedTuple):
    """How a convolution's kernel moves along one spatial dimension.

    Attributes:
        size: of the kernel.
        stride: between two outputs.
        padding: before the first input.
        dilation: of the input: one element in so many is not a hole.
        kernel_dilation: likewise of the kernel.
    """

    size: int
    stride: int
    padding: int
    dilation: int
    kernel_dilation: int

    def meetings(self, inputs: int, outputs: int) -> int:
        """Pairs of an output and a place of the kernel that meet an input.

        Args:
            inputs: along this dimension.
            outputs: likewise.

        Returns:
            The number.
        """
        first = np.arange(outputs, dtype=np.int64)[:, None] * self.stride - self.padding
        places = first + np.arange(self.size, dtype=np.int64)[None, :] * self.kernel_dilation
        last = (inputs - 1) * self.dilation
        met = (places >= 0) & (places <= last) & (places % self.dilation == 0)
        return int(np.count_nonzero(met))


def product_flops(instruction: Instruction, inside: Computation) -> int:
    """Multiplications and additions of a product.

    Args:
        instruction: any instruction.
        inside: the computation that it stands in.

    Returns:
        The number; 0 for what is neither a convolution nor a dot product.
    """
    if instruction.opcode == "convolution":
        return _convolution(instruction, inside)
    return _dot(instruction, inside) if instruction.opcode == "dot" else 0


def passes(instruction: Instruction, inside: Computation) -> int:
    """How many products of bfloat16 a TPU makes of this one.

    Args:
        instruction: a convolution or dot product.
        inside: the computation that it stands in.

    Returns:
        1, or more for float32 at a higher precision.
    """
    dtypes = {_shape(inside, name).dtype for name in instruction.operands}
    if "f32" not in dtypes:
        return 1
    wanted = instruction.attribute("operand_precision").split(",")
    return max(PASSES.get(precision, 1) for precision in wanted)


def _shape(inside: Computation, name: str):
    return inside.instructions[name].shapes[0]


def _dot(instruction: Instruction, inside: Computation) -> int:
    left = _shape(inside, instruction.operands[0]).dims
    contracted = instruction.attribute("lhs_contracting_dims")
    width = math.prod(left[int(place)] for place in contracted.split(",") if place)
    return 2 * math.prod(instruction.shapes[0].dims) * width


def _convolution(instruction: Instruction, inside: Computation) -> int:
    labels = re.fullmatch(r"(\w+)_(\w+)->(\w+)", instruction.attribute("dim_labels"))
    if labels is None:
        raise ValueError(f"a convolution has dim_labels; got {instruction.attributes!r}.")
    left, right = (_shape(inside, name).dims for name in instruction.operands[:2])
    out = instruction.shapes[0].dims
    meetings = 1
    for place, window in enumerate(windows(instruction.attribute("window"))):
        spatial = str(place)
        inputs, outputs = left[labels[1].index(spatial)], out[labels[3].index(spatial)]
        meetings *= window.meetings(inputs, outputs)
    depth = right[labels[2].index("i")]
    return 2 * meetings * depth * out[labels[3].index("b")] * out[labels[3].index("f")]


def windows(text: str) -> list[Window]:
    """The windows of a convolution, one for each spatial dimension.

    Args:
        text: of the attribute: "size=3x3 stride=2x2 pad=1_1x1_1".

    Returns:
        The windows; none for a product without spatial dimensions.
    """
    given = dict(part.split("=") for part in text.split())
    sizes = [int(size) for size in given.get("size", "").split("x") if size]

    def numbers(key: str, default: int) -> list[int]:
        listed = given[key].split("x") if key in given else [str(default)] * len(sizes)
        return [int(value.split("_")[0]) for value in listed]

    keys = (("stride", 1), ("pad", 0), ("lhs_dilate", 1), ("rhs_dilate", 1))
    columns = [numbers(key, default) for key, default in keys]
    return [Window(size, *row) for size, *row in zip(sizes, *columns, strict=True)]
