"""What one of N devices computes, holds and moves for the loss: read from the compiled programs."""

import functools
import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from aft_jax import aft_loss
from tests.losses.blocks import pairs_in_blocks

TEACHERS = {"a": 40, "b": 72}
STUDENT = 24
FACTORS = {"image": 24, "text": 20}
BLOCK = 64


class Case(NamedTuple):
    """A form of the loss.

    Attributes:
        batch: rows.
        student: its width, or its factors'.
        options: of the loss.
        products: FLOP in matrix products, forward and backward.
        exchanges: how often the features may travel.
        blocks: into how many the columns are cut; 0 for no loops at all.
    """

    batch: int
    student: Any
    options: dict[str, Any]
    products: int
    exchanges: int = 2
    blocks: int = 0


d, t = STUDENT, sum(TEACHERS.values())
RBF, BOTH = {"kernel": "rbf"}, {"kernel": "rbf", "combine": "product"}
CASES = {
    "linear": Case(96, d, {}, 4 * 96**2 * (d + t)),
    "moment form": Case(448, d, {}, 2 * 448 * (d**2 + d * t + t**2 + (d + t) ** 2), exchanges=1),
    "rbf": Case(96, d, RBF, 4 * 96**2 * (d + t)),
    "product": Case(96, d, {"combine": "product"}, 4 * 96**2 * (d + t)),
    "factors": Case(96, FACTORS, BOTH, 4 * 96**2 * (44 + t)),
    "rbf in blocks": Case(448, d, RBF, 6 * 448**2 * (d + t), blocks=7),
    # The features travel, and are multiplied, for the means first.
    "factors in blocks": Case(448, FACTORS, BOTH, 12 * 448**2 * (44 + t), exchanges=4, blocks=7),
}
WAYS = ("auto", "shard_map")


class Program(NamedTuple):
    """Compiled HLO of one device, and XLA's count of its FLOP."""

    text: str
    flop: float


@functools.cache
def compiled(name: str, devices: int, way: str = "auto", masked: bool = True) -> Program:
    """Value and gradients by scales and student, of a batch that is spread by its rows."""
    case = CASES[name]
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    rows, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())

    def array(sharding, *shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

    def loss(scales, student, teachers, mask, axis_name=None):
        return aft_loss(scales, student, teachers, mask=mask, axis_name=axis_name, **case.options)

    def mapped(*arguments):
        return loss(*arguments, axis_name="data")

    specs = P(), P("data"), P("data"), P("data")
    if way == "shard_map":
        function = jax.shard_map(mapped, mesh=mesh, in_specs=specs, out_specs=P())
    else:
        function = loss
    arguments = (
        {name: array(everywhere, width) for name, width in TEACHERS.items()},
        jax.tree.map(lambda width: array(rows, case.batch, width), case.student),
        {name: array(rows, case.batch, width) for name, width in TEACHERS.items()},
        array(rows, case.batch) if masked else None,
    )
    many = 0 if case.blocks else case.batch**2
    with pairs_in_blocks(rows=BLOCK, many=many):
        lowered = jax.jit(jax.value_and_grad(function, argnums=(0, 1))).lower(*arguments)
    program: Any = lowered.compile()
    return Program(str(program.as_text()), program.cost_analysis()["flops"])


def shapes(text: str) -> list[tuple[int, ...]]:
    """Every array shape in a piece of HLO."""
    found = re.findall(r"\b(?:pred|[a-z]+\d+)\[([\d,]*)\]", text)
    return [tuple(int(n) for n in shape.split(",") if n) for shape in found]


def products_flop(text: str) -> int:
    """FLOP of all matrix products in a program without loops: 2 x result x contracted length."""
    widths = {name: shape for name, shape in re.findall(r"(%[\w.-]+) = f32\[([\d,]*)\]", text)}
    widths |= {name: shape for name, shape in re.findall(r"(%?[\w.-]+): f32\[([\d,]*)\]", text)}
    total = 0
    for result, left, axis in re.findall(
        r"= f32\[([\d,]+)\]\S* dot\((%[\w.-]+).*lhs_contracting_dims=\{(\d)\}", text
    ):
        contracted = [int(n) for n in widths[left].split(",")][int(axis)]
        total += 2 * math.prod(int(n) for n in result.split(",")) * contracted
    return total


def moved(text: str) -> list[tuple[int, ...]]:
    """The shapes that come out of collectives."""
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    results = re.findall(rf"= ([^=]*?) (?:{kinds})(?:-start)?\(", text)
    return [shape for result in results for shape in shapes(result)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_no_device_holds_a_kernel_of_the_whole_batch(name, way):
    case = CASES[name]
    held = shapes(compiled(name, 8, way).text)
    assert (case.batch, case.batch) not in held
    if name == "moment form":
        return
    assert (case.batch // 8, BLOCK if case.blocks else case.batch) in held
    assert (case.batch in {shape[-1] for shape in held if len(shape) == 2}) == (not case.blocks)


@pytest.mark.parametrize("name", CASES)
def test_a_device_computes_its_share(name):
    case = CASES[name]
    alone = compiled(name, 1).flop
    for devices in (1, 2, 4, 8):
        program = compiled(name, devices)
        assert program.flop <= 1.05 * alone / devices
        # A loop's body stands in the program, and counts, once.
        products = products_flop(program.text) * max(1, case.blocks)
        assert products == case.products / devices


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_devices_exchange_the_features_and_vectors(name, way):
    case = CASES[name]
    arrays = moved(compiled(name, 8, way).text)
    arrays = [tuple(n for n in shape if n > 1) for shape in arrays]
    matrices = max(1, case.blocks) * sum(math.prod(x) for x in arrays if len(x) > 1)
    vectors = sum(math.prod(x) for x in arrays if len(x) < 2)
    width = sum(case.student.values()) if isinstance(case.student, dict) else case.student
    assert matrices <= case.exchanges * case.batch * (width + t)
    assert vectors <= 25 * case.batch


def test_a_batch_without_a_mask_is_spread_alike():
    program = compiled("linear", 8, masked=False).text
    assert (96, 96) not in shapes(program)
    assert products_flop(program) == CASES["linear"].products / 8
