"""What a compiled program does on each device: products, memory traffic, collectives.

XLA's own count has the body of a loop once, however often it runs, and a student is a loop over its
blocks. Here a loop counts as often as it runs.
"""

import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

from aft_jax.aot.collectives import bytes_sent, kind_of
from aft_jax.aot.hlo import Computation, Instruction, Program, parse
from aft_jax.aot.products import passes, product_flops
from aft_jax.aot.traffic import memory_bytes


class Costs(NamedTuple):
    """What one device does.

    Attributes:
        flops: multiplications and additions of products.
        passes: the same, each as often as the device makes it: a float32 product at the highest
            precision is six of bfloat16.
        memory: bytes read from and written to main memory.
        sent: kind of collective -> bytes that the device sends for it.
        calls: kind of collective -> how often it is started.
        unknown_loops: that run as often as the data say, and count once.
    """

    flops: float
    passes: float
    memory: float
    sent: Mapping[str, float]
    calls: Mapping[str, float]
    unknown_loops: int = 0

    def times(self, count: int) -> "Costs":
        """The same, so many times."""
        sent, calls = (
            {kind: count * value for kind, value in one.items()} for one in (self.sent, self.calls)
        )
        return Costs(
            count * self.flops,
            count * self.passes,
            count * self.memory,
            sent,
            calls,
            self.unknown_loops,
        )

    def plus(self, other: "Costs") -> "Costs":
        """Both, one after the other."""
        sent, calls = (
            {kind: one.get(kind, 0) + more.get(kind, 0) for kind in sorted(one | more)}
            for one, more in (
                (dict(self.sent), dict(other.sent)),
                (dict(self.calls), dict(other.calls)),
            )
        )
        return Costs(
            self.flops + other.flops,
            self.passes + other.passes,
            self.memory + other.memory,
            sent,
            calls,
            self.unknown_loops + other.unknown_loops,
        )


NOTHING = Costs(0, 0, 0, {}, {})
UNKNOWN_LOOP = NOTHING._replace(unknown_loops=1)


def program_costs(text: str, devices: int) -> Costs:
    """The costs of one call of a compiled program.

    Args:
        text: of the compiled module.
        devices: that it runs on.

    Returns:
        The costs on each device; of a conditional, those of its longest branch.

    Raises:
        ValueError: the text is no module.
    """
    program = parse(text)

    @functools.cache
    def of(name: str, fused: bool) -> Costs:
        inside = program.computations[name]
        total = NOTHING
        for instruction in inside.instructions.values():
            total = total.plus(_own(instruction, inside, program, devices, fused))
            total = total.plus(_called(instruction, inside, fused))
        return total

    def _called(instruction: Instruction, inside: Computation, fused: bool) -> Costs:
        opcode, names = instruction.opcode, instruction.called
        if opcode == "while":
            body = of(instruction.attribute("body").lstrip("%"), fused)
            count = trip_count(instruction, program)
            return body.plus(UNKNOWN_LOOP) if count is None else body.times(count)
        if opcode == "conditional":
            return max((of(name, fused) for name in names), key=_size)
        if opcode == "fusion":
            return of(names[0], True)
        if opcode in ("call", "async-start"):
            return of(names[0], fused)
        return NOTHING  # a reduction's or a sort's few operations on scalars

    return of(program.entry, False)


def _own(
    instruction: Instruction, inside: Computation, program: Program, devices: int, fused: bool
) -> Costs:
    flops = product_flops(instruction, inside)
    kind = kind_of(instruction, inside)
    sent = {} if kind is None else {kind: bytes_sent(kind, instruction, inside, devices)}
    return Costs(
        flops=flops,
        passes=flops * passes(instruction, inside) if flops else 0,
        memory=0 if fused else memory_bytes(instruction, inside, program),
        sent=sent,
        calls={} if kind is None else {kind: 1},
    )


def _size(costs: Costs) -> tuple[float, ...]:
    return tuple(map(float, (costs.passes, costs.memory, sum(costs.sent.values()))))


def trip_count(loop: Instruction, program: Program) -> int | None:
    """How often a loop runs, where it counts up to a constant.

    Args:
        loop: a "while" instruction.
        program: that it is of.

    Returns:
        The number; None where the program does not say.
    """
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known is not None:
        return int(known[1])
    return _limit(program.computations[loop.attribute("condition").lstrip("%")], program)


def _limit(condition: Computation, program: Program) -> int | None:
    """The constant of the comparison i < constant, which may stand in a fusion."""
    root = condition.root
    if root.opcode == "fusion":
        inner = program.computations[root.called[0]]
        for place, operand in enumerate(root.operands):
            found = _constant(condition.instructions[operand])
            if found is not None and _compared(inner, inner.parameter(place).name):
                return found
        root, condition = inner.root, inner
    if root.opcode != "compare" or root.attribute("direction") != "LT":
        return None
    return _constant(condition.instructions[root.operands[1]])


def _compared(inner: Computation, name: str) -> bool:
    root = inner.root
    less = root.opcode == "compare" and root.attribute("direction") == "LT"
    return less and root.operands[1] == name


def _constant(instruction: Instruction) -> int | None:
    literal = instruction.opcode == "constant" and re.fullmatch(r"-?\d+", instruction.text)
    return int(instruction.text) if literal else None
