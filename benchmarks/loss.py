"""The loss against the same mathematics written plainly, forward and backward.

    python benchmarks/loss.py [--quick]

Prints one table of ratios with the goals they are held to, and the batch length from which second
moments are faster than kernels (`MOMENT_CROSSOVER` in aft_jax/losses/squares.py). Kernels in blocks
against whole ones: what less memory costs (`MANY_PAIRS`, `BLOCK_PAIRS` in aft_jax/losses/pairs.py).
"""

import argparse
import functools
import itertools
import math
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aft_jax import aft_loss
from aft_jax.losses import pairs
from aft_jax.losses.squares import (
    MOMENT_CROSSOVER,
    squares_by_block,
    squares_by_kernel,
    squares_by_moment,
)
from benchmarks.timing import describe_machine, measure


class Row(NamedTuple):
    """One line of the table: `ratio` is ours / other, to be at most `goal`; or no goal at all."""

    what: str
    ours: float
    other: float
    unit: str
    goal: float | None

    @property
    def ratio(self) -> float:
        return self.ours / self.other


def plain_unit_rows(x):
    centred = x - jnp.mean(x, axis=0, keepdims=True)
    return centred / (jnp.linalg.norm(centred, axis=1, keepdims=True) + 1e-8)


def plain_distance(kernel, teacher_kernel):
    return jnp.sqrt(jnp.mean(jnp.square(kernel - teacher_kernel)) + 1e-8)


def plain_linear(scales, student, teacher):
    rows = plain_unit_rows(student), plain_unit_rows(teacher * jax.nn.sigmoid(scales)[None])
    return plain_distance(*(x @ x.T for x in rows))


def plain_rbf(scales, student, teacher):
    rows = plain_unit_rows(student), plain_unit_rows(teacher * jax.nn.sigmoid(scales)[None])
    return plain_distance(
        *(jnp.exp(-jnp.sum(jnp.square(x[:, None] - x[None]), axis=-1)) for x in rows)
    )


def plain_product(scales, student, teachers):
    a, b = (teachers[name] * jax.nn.sigmoid(scales[name])[None] for name in ("a", "b"))
    return plain_linear_unscaled(student, (a[:, :, None] * b[:, None, :]).reshape(a.shape[0], -1))


def plain_linear_unscaled(student, teacher):
    return plain_distance(*(x @ x.T for x in map(plain_unit_rows, (student, teacher))))


def gradients(loss: Callable[..., jax.Array]) -> Callable[..., Any]:
    """Forward and backward, as a train step needs it."""
    return jax.value_and_grad(loss, argnums=(0, 1))


def normal(*shape: int) -> jax.Array:
    values = np.random.default_rng(0).normal(size=shape) + 0.3
    return jnp.asarray(values, jnp.float32)


def linear_rows(batch: int, goal: float, repeats: int) -> list[Row]:
    d, t = 384, 2944
    found = measure(
        {"ours": gradients(aft_loss), "plain": gradients(plain_linear)},
        (normal(t), normal(batch, d), normal(batch, t)),
        repeats,
    )
    ours, plain = found["ours"], found["plain"]
    what = f"linear b={batch} d={d} t={t}"
    return [
        Row(f"{what} vs autodiff", ours.milliseconds, plain.milliseconds, "ms", goal),
        Row(f"{what}, memory", ours.megabytes, plain.megabytes, "MiB", 1.0),
    ]


def rbf_rows(repeats: int) -> list[Row]:
    batch, d, t = 128, 384, 1536
    found = measure(
        {
            "ours": gradients(lambda *arrays: aft_loss(*arrays, kernel="rbf")),
            "plain": gradients(plain_rbf),
        },
        (normal(t), normal(batch, d), normal(batch, t)),
        repeats,
    )
    ours, plain = found["ours"].milliseconds, found["plain"].milliseconds
    return [Row(f"RBF b={batch} d={d} t={t} vs differences", ours, plain, "ms", 1 / 20)]


def product_rows(repeats: int) -> list[Row]:
    batch, d, t = 32, 1024, 512
    arguments = (
        {"a": normal(t), "b": normal(t)},
        normal(batch, d),
        {"a": normal(batch, t), "b": normal(batch, t)[::-1]},
    )
    ours = gradients(lambda *arrays: aft_loss(*arrays, combine="product"))
    found = measure({"ours": ours, "plain": gradients(plain_product)}, arguments, repeats)
    what = f"product b={batch} d={d} t={t}x{t}"
    times = found["ours"].milliseconds, found["plain"].milliseconds
    return [
        Row(f"{what} vs built", *times, "ms", 1 / 30),
        Row(f"{what}, largest array vs 1 MiB", largest_array(ours, arguments), 1.0, "MiB", 1.0),
    ]


def largest_array(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """MiB of the largest float32 array in the lowered program."""
    text = jax.jit(function).lower(*arguments).as_text()
    shapes = re.findall(r"tensor<((?:\d+x)+)f32>", text)
    return max(4 * math.prod(map(int, shape.strip("x").split("x"))) for shape in shapes) / 2**20


def crossover_rows(width: int, longest: int, repeats: int) -> list[Row]:
    """Moments against kernels, at batches from a quarter to eight times the widths' sum."""

    def by_kernel(student, teacher):
        return squares_by_kernel([student], [teacher], jnp.ones_like(student[:, 0]))

    def by_moment(student, teacher):
        return squares_by_moment(student, teacher, jnp.ones_like(student[:, 0]))

    def both_gradients(squares):
        return jax.value_and_grad(squares, argnums=(0, 1))

    candidates = {"moment": both_gradients(by_moment), "kernel": both_gradients(by_kernel)}
    rows = []
    for relative in (0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0, 8.0):
        batch = int(relative * width)
        if batch > longest:
            break
        arrays = (normal(batch, width // 4), normal(batch, width - width // 4))
        found = measure(candidates, arrays, repeats)
        what = f"moments vs kernels m={width} b={relative:g} m"
        moment, kernel = found["moment"], found["kernel"]
        rows.append(Row(what, moment.milliseconds, kernel.milliseconds, "ms", None))
        rows.append(Row(f"{what}, memory", moment.megabytes, kernel.megabytes, "MiB", None))
    return rows


def crossover(rows: list[Row]) -> float:
    """The b/m at which both take equally long, between the last two batches that disagree."""
    timed = [row for row in rows if row.unit == "ms"]
    points = [(float(row.what.split("b=")[1].split(" m")[0]), row.ratio) for row in timed]
    for (low, slow), (high, fast) in reversed(list(itertools.pairwise(points))):
        if slow > 1 >= fast:
            part = math.log(slow) / (math.log(slow) - math.log(fast))
            return low * (high / low) ** part
    return math.nan


def block_rows(batch: int, sizes: tuple[int, ...], repeats: int) -> list[Row]:
    """Kernels in blocks of 2^size pairs against whole ones, for the forms without moments."""
    rows = []
    for label, widths, kernel in (("RBF", (1536,), "rbf"), ("product", (512, 512), "linear")):
        arrays = [normal(batch, 384)], [normal(batch, width) for width in widths]

        def whole(student, teacher, kernel=kernel):
            ones = jnp.ones_like(student[0][:, 0])
            return squares_by_kernel(student, teacher, ones, kernel=kernel)

        def in_blocks(student, teacher, size, kernel=kernel):
            pairs.BLOCK_PAIRS = 2**size
            ones = jnp.ones_like(student[0][:, 0])
            return squares_by_block(student, teacher, ones, kernel=kernel)

        candidates = {"whole": jax.value_and_grad(whole, (0, 1))} | {
            f"2^{size}": jax.value_and_grad(functools.partial(in_blocks, size=size), (0, 1))
            for size in sizes
        }
        found = measure(candidates, arrays, repeats)
        kernels = found.pop("whole")
        for size, blocks in found.items():
            what = f"blocks of {size} vs whole, {label} b={batch}"
            rows += [
                Row(what, blocks.milliseconds, kernels.milliseconds, "ms", None),
                Row(f"{what}, memory", blocks.megabytes, kernels.megabytes, "MiB", None),
            ]
    return rows


def print_table(rows: list[Row]) -> None:
    width = max(len(row.what) for row in rows)
    print(f"{'what':{width}} {'ours':>10} {'other':>10}      {'ratio':>7} {'goal':>7}")
    for row in rows:
        goal = "" if row.goal is None else f"{row.goal:7.3f}"
        verdict = "" if row.goal is None else ("met" if row.ratio <= row.goal else "NOT MET")
        values = f"{row.ours:10.2f} {row.other:10.2f} {row.unit:4}"
        print(f"{row.what:{width}} {values} {row.ratio:7.3f} {goal:7} {verdict}")


def main(quick: bool) -> None:
    print(describe_machine())
    rows = linear_rows(1024, 0.75, repeats=5 if quick else 31)
    if not quick:
        rows += linear_rows(4096, 0.70, repeats=9)
    rows += rbf_rows(repeats=3 if quick else 9)
    rows += product_rows(repeats=5 if quick else 51)
    crossovers = {}
    for width in (256,) if quick else (256, 1024, 3328):
        found = crossover_rows(width, longest=512 if quick else 4700, repeats=5 if quick else 9)
        crossovers[width] = crossover(found)
        rows += found
    rows += block_rows(1024, (18,), repeats=3) if quick else block_rows(4096, (18, 20, 22), 5)
    print_table(rows)
    measured = ", ".join(f"{value:.2f} at m={width}" for width, value in crossovers.items())
    print(f"measured crossover b/m: {measured}; MOMENT_CROSSOVER = {MOMENT_CROSSOVER:g}")
    print(describe_machine())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes, rougher")
    main(parser.parse_args().quick)
