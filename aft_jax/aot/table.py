"""What the `compile` verb prints: a line for each number, and what the method adds to it."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from aft_jax.aot.compilation import BASELINE, Compilation, Measured, Refused
from aft_jax.aot.estimate import Seconds, seconds
from aft_jax.text_table import text_table

GIB, HOUR = 2**30, 3600


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        name: what is counted.
        value: compiled step -> the number.
        form: how it is written.
    """

    name: str
    value: Callable[[Measured], float]
    form: Callable[[float], str]


def format_compilation(found: Compilation) -> str:
    """The table.

    Args:
        found: what was compiled.

    Returns:
        Its lines, with the slice above and the verdict below.
    """
    lines = [
        f"{found.slice.name}: {found.slice.chips} chips; {found.rows} rows in a batch, "
        f"{found.rows / found.slice.chips:g} on each chip; {found.steps} steps"
    ]
    measured = {
        name: program for name, program in found.programs.items() if isinstance(program, Measured)
    }
    if measured:
        lines += ["", _table(found, measured), ""]
    lines += [verdict(found, name) for name in found.programs]
    for name, program in measured.items():
        if program.costs.unknown_loops:
            lines.append(
                f"{name} has {program.costs.unknown_loops} loops that run as often as the data "
                "say: each is counted once"
            )
    return "\n".join(lines)


def verdict(found: Compilation, name: str) -> str:
    """Whether a method's step fits into the memory of a chip, and what its run takes at least.

    Args:
        found: what was compiled.
        name: of the method.

    Returns:
        One line.
    """
    program, chip = found.programs[name], found.slice.chip
    if isinstance(program, Refused):
        needed, available = (chip.devices * size / GIB for size in program)
        return f"{name} does not fit: {needed:.2f} GiB of the {available:.2f} that programs may use"
    peak, size = chip.devices * program.memory.peak, chip.hbm
    fit = "fits" if peak <= size else "does not fit"
    times = seconds(program.costs, chip)
    hours = times.step * found.steps / HOUR
    return (
        f"{name} {fit}: {peak / GIB:.2f} of {size / GIB:g} GiB on a chip. A step takes at least "
        f"{_ms(times.step)}, by {_BOUND[times.bound]}; the run {hours:.3g} h and "
        f"{hours * found.slice.chips:.3g} chip-hours"
    )


_BOUND: Mapping[str, str] = {
    "products": "its products",
    "memory": "its memory traffic",
    "interconnect": "its collectives",
}


def _table(found: Compilation, measured: Mapping[str, Measured]) -> str:
    names = list(measured)
    added = [name for name in names if name != BASELINE and BASELINE in measured]
    head = ["on each chip", *names]
    for name in added:
        head += [f"{name} adds", ""]
    table = [head]
    for row in rows(found, list(measured.values())):
        values = {name: float(row.value(program)) for name, program in measured.items()}
        cells = [row.name, *(row.form(value) for value in values.values())]
        for name in added:
            more, base = values[name] - values[BASELINE], values[BASELINE]
            cells += [row.form(more), f"{100 * more / base:+.2f} %" if base else ""]
        table.append(cells)
    return text_table(table, right=range(1, len(head)))


def rows(found: Compilation, programs: Sequence[Measured]) -> list[Row]:
    """The lines of the table.

    Args:
        found: what was compiled.
        programs: the steps that were, whose collectives decide which lines there are.

    Returns:
        The lines, all of a chip, which may have several devices.
    """
    chip = found.slice.chip
    share = chip.devices
    kinds = sorted({kind for program in programs for kind in program.costs.sent})

    def time(part: Callable[[Seconds], float]) -> Callable[[Measured], float]:
        return lambda program: part(seconds(program.costs, chip))

    return [
        Row("memory: arguments", lambda p: share * p.memory.arguments, _size),
        Row("memory: outputs", lambda p: share * p.memory.outputs, _size),
        Row("memory: temporaries", lambda p: share * p.memory.temporaries, _size),
        Row("memory: peak", lambda p: share * p.memory.peak, _size),
        Row("FLOPs of products", lambda p: share * p.costs.flops, _giga),
        Row("FLOPs as bfloat16", lambda p: share * p.costs.passes, _giga),
        Row("bytes of memory moved", lambda p: share * p.costs.memory, _size),
        *(
            Row(f"sent by {kind}", lambda p, kind=kind: share * p.costs.sent.get(kind, 0), _size)
            for kind in kinds
        ),
        Row("time of products", time(lambda s: s.products), _ms),
        Row("time of memory", time(lambda s: s.memory), _ms),
        Row("time of collectives", time(lambda s: s.interconnect), _ms),
        Row("step, at least", time(lambda s: s.step), _ms),
    ]


def _size(size: float) -> str:
    return f"{size / 2**20:,.2f} MiB"


def _giga(flops: float) -> str:
    return f"{flops / 1e9:,.2f} G"


def _ms(time: float) -> str:
    return f"{1e3 * time:,.3f} ms"
