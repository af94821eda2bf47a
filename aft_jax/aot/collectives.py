"""The collectives of a compiled program: which there are, and what each chip sends for them."""

import math
import re
from collections.abc import Callable, Mapping

from aft_jax.aot.hlo import Computation, Instruction

SENT: Mapping[str, Callable[[int, int], float]] = {
    "all-reduce": lambda size, group: 2 * size * (group - 1) / group,
    "all-gather": lambda size, group: size * (group - 1),
    "reduce-scatter": lambda size, group: size * (group - 1) / group,
    "all-to-all": lambda size, group: size * (group - 1) / group,
    "ragged-all-to-all": lambda size, group: size * (group - 1) / group,
    "collective-permute": lambda size, group: size,
    "collective-broadcast": lambda size, group: size,
}
"""Kind -> (bytes of its operands on one device, devices that take part) -> bytes that each sends.

Those of the algorithms that move the fewest: Thakur et al., "Optimization of Collective
Communication Operations in MPICH", IJHPCA 2005.
"""

_SCATTERED = "all-reduce-scatter"
"""How TPU programs name a computation that sums and keeps a part: XLA fuses the two into one."""


def kind_of(instruction: Instruction, inside: Computation) -> str | None:
    """The kind of a collective.

    Args:
        instruction: any instruction; of an asynchronous one, the start counts and the end does not.
        inside: the computation that it stands in.

    Returns:
        A key of `SENT`; None for what is no collective.
    """
    kind = instruction.opcode.removesuffix("-start")
    if kind == "all-reduce" and inside.name.startswith(_SCATTERED):
        return "reduce-scatter"
    return kind if kind in SENT else None


def bytes_sent(kind: str, instruction: Instruction, inside: Computation, devices: int) -> float:
    """What each device sends for a collective.

    Args:
        kind: see `kind_of`.
        instruction: the collective.
        inside: the computation that it stands in.
        devices: of the program.

    Returns:
        Bytes, without padding.
    """
    operands = (inside.instructions[name] for name in instruction.operands)
    size = sum(shape.size for operand in operands for shape in operand.shapes)
    return float(SENT[kind](size, group_size(instruction.attributes, devices)))


def group_size(attributes: str, devices: int) -> int:
    """How many devices take part in a collective together.

    Args:
        attributes: of the instruction; XLA has three ways of writing its groups down.
        devices: of the program, all of which take part where no group is named.

    Returns:
        The number.
    """
    axes = re.search(r"replica_groups=\w+\[([^\]]*)\] \{([^}]*)\}", attributes)
    if axes is not None:
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", axes[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']+)'", axes[2]))
    grid = re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes)
    if grid is not None:
        return int(grid[1])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
    return devices if listed is None else len(listed[1].split(","))
