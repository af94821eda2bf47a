"""The TPU chips that a step is compiled for: sizes and peaks as their maker publishes them.

Peaks are those of bfloat16 products; memory is in GiB, speeds are in powers of ten. The speed of
the interconnect is what one chip sends over all of its links: half of what the published tables
call bidirectional.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from aft_jax.errors import UsageError


class Chip(NamedTuple):
    """One kind of TPU chip.

    Attributes:
        flops: floating point operations a second, of products in bfloat16.
        hbm: bytes of its memory.
        hbm_speed: bytes a second that its memory reads or writes.
        ici_speed: bytes a second that it sends to other chips.
        devices: JAX devices on one chip.
        axes: of its topologies.
        wiring: how the compiler is told that its two cores are one device; empty where they are
            anyway, or are two.
    """

    flops: float
    hbm: int
    hbm_speed: float
    ici_speed: float
    devices: int
    axes: int
    wiring: str = ""


CHIPS: Mapping[str, Chip] = {
    "v4": Chip(275e12, 32 * 2**30, 1200e9, 1.1e15 / 4096, devices=1, axes=3, wiring="megacore"),
    "v5e": Chip(197e12, 16 * 2**30, 819e9, 400e9 / 2, devices=1, axes=2),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 1200e9 / 2, devices=1, axes=3),
    "v6e": Chip(918e12, 32 * 2**30, 1638e9, 800e9 / 2, devices=1, axes=2),
    "tpu7x": Chip(2307e12, 192 * 2**30, 7380e9, 1200e9 / 2, devices=2, axes=3),
}
"""Name in a topology -> chip.

Sources, read in November 2026:
    v4     cloud.google.com/tpu/docs/v4; its interconnect is the table's all-reduce bandwidth of a
           pod, 1.1 PB/s, by the pod's 4,096 chips
    v5e    cloud.google.com/tpu/docs/v5e
    v5p    docs.cloud.google.com/tpu/docs/v5p
    v6e    docs.cloud.google.com/tpu/docs/v6e
    tpu7x  docs.cloud.google.com/tpu/docs/tpu7x
"""


class Slice(NamedTuple):
    """Chips that are wired together.

    Attributes:
        name: the topology, "v5e:4x4".
        chip: of which kind they are.
        shape: chips along each axis.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """How many."""
        return math.prod(self.shape)

    @property
    def devices(self) -> int:
        """How many devices JAX has on them."""
        return self.chips * self.chip.devices


def parse_topology(text: str) -> Slice:
    """The slice that a topology names.

    Args:
        text: chip and shape, "v5e:4x4" or "v5p:2x2x2".

    Returns:
        The slice.

    Raises:
        UsageError: the chip is unknown, or the shape is none of that chip's.
    """
    name, _, shape = text.partition(":")
    if name not in CHIPS:
        raise UsageError(
            f"a topology is CHIP:SHAPE with a chip of {', '.join(CHIPS)}, like v5e:4x4; got "
            f"{text!r}."
        )
    chip = CHIPS[name]
    if not re.fullmatch("x".join([r"[1-9]\d*"] * chip.axes), shape):
        example = "x".join(["4"] * chip.axes)
        raise UsageError(
            f"a topology of {name} has the chips along each of {chip.axes} axes, like "
            f"{name}:{example}; got {text!r}."
        )
    return Slice(text, chip, tuple(map(int, shape.split("x"))))
