"""The text of a compiled program, read into computations and instructions.

What XLA prints, one instruction a line:

    ROOT %name = f32[8,128]{1,0:T(8,128)S(1)} opcode(%operand, ...), attribute=value, ..., metadata=

A layout names dimensions from the one that runs fastest, the tile that they are padded to, and the
memory: S(1) is on the core, none is HBM.
"""

import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

_SHAPE = re.compile(r"(\w+)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_CALLED = re.compile(r"\b(?:calls|body|condition|to_apply|branch_computations|\w+_computation)=")
_METADATA = re.compile(r"metadata=\{[^}]*\}")
_BITS = re.compile(r"(?:bf|f|s|u|c)(\d+)")


class Shape(NamedTuple):
    """One array.

    Attributes:
        dtype: as XLA writes it: "bf16".
        dims: its dimensions.
        layout: what stands in braces behind them, empty for none.
    """

    dtype: str
    dims: tuple[int, ...]
    layout: str

    @property
    def on_hbm(self) -> bool:
        """Whether it is in the chip's main memory, not in that of the core or the host."""
        return re.search(r"S\([1-9]", self.layout) is None

    @property
    def size(self) -> int:
        """Its bytes, without padding."""
        return self._bytes(math.prod(self.dims))

    @property
    def padded_size(self) -> int:
        """Its bytes in memory, padded to the layout's tile."""
        order, _, rest = self.layout.partition(":")
        tile = re.match(r"T\(([\d,]+)\)", rest)
        if tile is None or not all(self.dims):
            return self.size
        places = [int(place) for place in order.split(",") if place]
        slowest_first = [self.dims[place] for place in reversed(places)]
        padded = _padded(slowest_first, [int(side) for side in tile[1].split(",")])
        return self._bytes(math.prod(padded))

    def _bytes(self, elements: int) -> int:
        if self.dtype == "pred":
            return elements
        bits = _BITS.match(self.dtype)  # tokens and opaque values have none
        return -(-elements * int(bits[1]) // 8) if bits else 0


def _padded(dims: Sequence[int], tile: Sequence[int]) -> list[int]:
    ones = [1] * (len(tile) - len(dims))
    dims = [*ones, *dims]
    whole, tiled = dims[: len(dims) - len(tile)], dims[len(dims) - len(tile) :]
    return whole + [-(-dim // side) * side for dim, side in zip(tiled, tile, strict=True)]


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
        name: unique in its computation.
        shapes: of its result; several where that is a tuple, flattened.
        opcode: "fusion".
        operands: names.
        text: what stands in the parentheses, for literals.
        attributes: what follows them, without metadata.
        is_root: whether it is the computation's result.
    """

    name: str
    shapes: tuple[Shape, ...]
    opcode: str
    operands: tuple[str, ...]
    text: str
    attributes: str
    is_root: bool

    def attribute(self, key: str) -> str:
        """The text of an attribute without braces; empty where it has none."""
        found = re.search(rf"\b{key}=(?:\{{([^}}]*)\}}|([^\s,]+))", self.attributes)
        return "" if found is None else (found[1] if found[1] is not None else found[2])

    @property
    def called(self) -> tuple[str, ...]:
        """The computations that its attributes name, in their order."""
        names: list[str] = []
        for found in _CALLED.finditer(self.attributes):
            rest = self.attributes[found.end() :]
            listed = rest[: rest.index("}")] if rest.startswith("{") else rest.split(",")[0]
            names += _NAME.findall(listed)
        return tuple(names)


class Computation(NamedTuple):
    """A function of the program.

    Attributes:
        name: unique in the program.
        instructions: name -> instruction, in the order of the text.
    """

    name: str
    instructions: Mapping[str, Instruction]

    @property
    def root(self) -> Instruction:
        """Its result."""
        return next(line for line in self.instructions.values() if line.is_root)

    def parameter(self, number: int) -> Instruction:
        """An argument, by its place."""
        wanted = str(number)
        return next(
            line
            for line in self.instructions.values()
            if line.opcode == "parameter" and line.text == wanted
        )

    def users(self, name: str) -> Iterator[tuple[Instruction, int]]:
        """The instructions that read a value, each with the place of the operand."""
        for line in self.instructions.values():
            for place, operand in enumerate(line.operands):
                if operand == name:
                    yield line, place


class Program(NamedTuple):
    """A compiled module.

    Attributes:
        entry: name of the computation that is called.
        computations: name -> computation.
    """

    entry: str
    computations: Mapping[str, Computation]


def parse(text: str) -> Program:
    """Reads the text of a compiled module.

    Args:
        text: what `jax.stages.Compiled.as_text` returns.

    Returns:
        The program.

    Raises:
        ValueError: the text has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry = ""
    lines: dict[str, Instruction] = {}
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head is not None:
            lines = {}
            computations[head[1]] = Computation(head[1], lines)
            entry = head[1] if line.startswith("ENTRY") else entry
        elif computations and (found := _LINE.match(line)) is not None:
            is_root = line.lstrip().startswith("ROOT")
            lines[found[1]] = _instruction(found[1], found[2], is_root)
    if not entry:
        raise ValueError("the text of a compiled module has an ENTRY computation; found none.")
    return Program(entry, computations)


def _instruction(name: str, rest: str, is_root: bool) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    opening = rest.index("(", end)
    closing = _closing(rest, opening)
    text = rest[opening + 1 : closing]
    opcode = rest[end:opening].strip()
    literal = opcode in ("parameter", "constant")
    return Instruction(
        name=name,
        shapes=shapes(rest[:end]),
        opcode=opcode,
        operands=() if literal else tuple(_NAME.findall(text)),
        text=text,
        attributes=_METADATA.sub("", rest[closing + 1 :]),
        is_root=is_root,
    )


@functools.lru_cache(maxsize=4096)
def shapes(text: str) -> tuple[Shape, ...]:
    """The arrays in the text of a shape, a tuple's from left to right."""
    return tuple(
        Shape(dtype, tuple(int(dim.lstrip("<=")) for dim in dims.split(",") if dim), layout or "")
        for dtype, dims, layout in _SHAPE.findall(text)
    )


def _closing(text: str, opening: int) -> int:
    """The place of the parenthesis that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if not depth:
            return place
    raise ValueError(f"parentheses close; {text[opening : opening + 40]!r} does not.")
