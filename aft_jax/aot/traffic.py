"""Bytes that the instructions of a compiled program read from and write to a chip's main memory.

What the compiler keeps in the core's own memory costs nothing here. A slice reads what it takes and
not what it is taken from; an update in place writes what changes.
"""

import functools
from collections.abc import Callable, Iterable, Sequence

from aft_jax.aot.hlo import Computation, Instruction, Program, Shape

FREE = frozenset(
    (
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
        *("while", "conditional", "call", "async-start", "async-update", "opt-barrier"),
        *("partition-id", "replica-id"),
    )
)
"""Opcodes that move nothing themselves; what a loop or a branch calls is counted there."""

_ALIASES = ("AllocateBuffer", "ConcatBitcast")
"""Custom calls that name memory and move nothing."""

_SLICES = ("dynamic-slice", "slice", "gather")


def memory_bytes(instruction: Instruction, inside: Computation, program: Program) -> int:
    """What an instruction reads and writes.

    Args:
        instruction: of a computation that is not part of a fusion.
        inside: that computation.
        program: the program.

    Returns:
        Bytes, padded to the tiles of the layouts.
    """
    opcode = instruction.opcode
    if opcode in FREE or opcode.endswith("-done"):
        return 0
    if opcode == "custom-call" and any(name in instruction.attributes for name in _ALIASES):
        return 0
    operands = [inside.instructions[name].shapes for name in instruction.operands]
    if opcode in ("copy-start", "slice-start"):
        return _transfer(instruction.shapes)
    if opcode == "fusion":
        return _fusion(instruction, operands, program)
    if opcode in _SLICES:
        rest = sum(_total(shapes) for shapes in operands[1:])
        return _like(operands[0][0], instruction.shapes) + _total(instruction.shapes) + rest
    if opcode in ("dynamic-update-slice", "scatter"):
        changed = operands[1] if opcode == "dynamic-update-slice" else operands[-1]
        return _total(changed) + _like(instruction.shapes[0], changed)
    return _total(instruction.shapes) + sum(map(_total, operands))


def _total(shapes: Iterable[Shape]) -> int:
    return sum(shape.padded_size for shape in shapes if shape.on_hbm)


def _like(whole: Shape, part: Sequence[Shape]) -> int:
    """The bytes of a part of an array, if the array is in main memory."""
    return sum(shape.padded_size for shape in part) if whole.on_hbm else 0


def _transfer(shapes: Sequence[Shape]) -> int:
    """From one memory to another: the result names source, destination and a semaphore."""
    ends = shapes[:2]
    moved = min(shape.padded_size for shape in ends)
    return sum(moved for shape in ends if shape.on_hbm)


def _fusion(instruction: Instruction, operands: Sequence[Sequence[Shape]], program: Program) -> int:
    body = program.computations[instruction.called[0]]
    read = sum(_read(body, number, shapes, program) for number, shapes in enumerate(operands))
    return read + _written(body, body.root, instruction.shapes, program)


def _read(body: Computation, number: int, shapes: Sequence[Shape], program: Program) -> int:
    """What a fused computation reads of one operand."""
    whole = _total(shapes)
    if not whole:
        return 0
    taken = _taken(body, body.parameter(number).name, program)
    return whole if taken is None else min(whole, taken)


def _taken(
    body: Computation,
    name: str,
    program: Program,
    of_result: Callable[[], int | None] = lambda: None,
) -> int | None:
    """The bytes that are taken of a value; None for all of it.

    `of_result` says what is taken of what the body returns, where that is the value itself.
    """
    if body.instructions[name].is_root:
        return of_result()
    total = 0
    for user, place in body.users(name):
        if user.opcode == "bitcast":
            part = _taken(body, user.name, program, of_result)
        elif user.opcode in _SLICES and place == 0:
            part = sum(shape.padded_size for shape in user.shapes)
        elif user.opcode == "dynamic-update-slice" and place == 0:
            part = 0  # in place
        elif user.opcode == "fusion":
            inner = program.computations[user.called[0]]
            outside = functools.partial(_taken, body, user.name, program, of_result)
            part = _taken(inner, inner.parameter(place).name, program, outside)
        else:
            part = None
        if part is None:
            return None
        total += part
    return total


def _written(
    body: Computation, value: Instruction, shapes: Sequence[Shape], program: Program
) -> int:
    """What a fused computation writes; `shapes` are those of its result outside."""
    if value.opcode == "tuple" and len(value.operands) == len(shapes):
        parts = (body.instructions[name] for name in value.operands)
        return sum(
            _written(body, part, [shape], program)
            for part, shape in zip(parts, shapes, strict=True)
        )
    if value.opcode == "bitcast":
        return _written(body, body.instructions[value.operands[0]], shapes, program)
    if value.opcode == "dynamic-update-slice" and len(shapes) == 1:
        return _like(shapes[0], body.instructions[value.operands[1]].shapes)
    if value.opcode == "fusion":
        inner = program.computations[value.called[0]]
        return _written(inner, inner.root, shapes, program)
    return _total(shapes)
