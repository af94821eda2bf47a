"""How long a step takes at least, from what the program does and what the chip can do."""

from typing import NamedTuple

from aft_jax.aot.chips import Chip
from aft_jax.aot.costs import Costs


class Seconds(NamedTuple):
    """A step on one chip, were each part of the chip busy all of the time.

    Attributes:
        products: of its matrix units.
        memory: of its main memory.
        interconnect: of its links to other chips.
    """

    products: float
    memory: float
    interconnect: float

    @property
    def step(self) -> float:
        """The longest of the three, which overlap: no step is faster."""
        return max(self)

    @property
    def bound(self) -> str:
        """Which of them that is."""
        return max(zip(self, self._fields, strict=True))[1]


def seconds(costs: Costs, chip: Chip) -> Seconds:
    """The three times of a step.

    Args:
        costs: of one device.
        chip: that has one device or more.

    Returns:
        The times.
    """
    return Seconds(
        products=chip.devices * costs.passes / chip.flops,
        memory=chip.devices * costs.memory / chip.hbm_speed,
        interconnect=chip.devices * sum(costs.sent.values()) / chip.ici_speed,
    )
