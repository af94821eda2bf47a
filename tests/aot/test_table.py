import pytest

from aft_jax.aot.chips import CHIPS, parse_topology
from aft_jax.aot.compilation import Compilation, Measured, Memory, Refused
from aft_jax.aot.costs import Costs
from aft_jax.aot.estimate import seconds
from aft_jax.aot.table import format_compilation, verdict

MIB, GIB = 2**20, 2**30
V5E = CHIPS["v5e"]


def program(share: float, sent: float = 200e6) -> Measured:
    """A step that keeps a v5e busy for 1 s by its products, and half as long by its memory."""
    memory = Memory(100 * MIB, MIB, int(share * 16 * GIB) - 100 * MIB, int(share * 16 * GIB))
    costs = Costs(50e12, V5E.flops, V5E.hbm_speed / 2, {"all-reduce": sent}, {"all-reduce": 3})
    return Measured(memory, costs)


def compilation(**programs: Measured | Refused) -> Compilation:
    return Compilation(parse_topology("v5e:4x4"), 4096, 3600, programs)


def test_seconds_are_work_by_published_speed():
    times = seconds(program(0.5).costs, V5E)
    assert times == (1.0, 0.5, 200e6 / 200e9)
    assert (times.step, times.bound) == (1.0, "products")


def test_a_chip_of_two_devices_does_the_work_of_both():
    chip = CHIPS["tpu7x"]
    times = seconds(Costs(0, chip.flops, chip.hbm_speed * 2, {}, {}), chip)
    assert times == (2.0, 4.0, 0.0)
    assert times.bound == "memory"


def test_table_says_what_the_method_adds():
    base, more = program(0.25), program(0.5, sent=300e6)
    text = format_compilation(compilation(stl=base, aft=more))
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert text.startswith("v5e:4x4: 16 chips; 4096 rows in a batch, 256 on each chip; 3600 steps")
    peak = ["memory:", "peak", "4,096.00", "MiB", "8,192.00", "MiB", "4,096.00", "MiB"]
    assert lines["memory: peak"] == [*peak, "+100.00", "%"]
    assert lines["sent by all-reduce"][-2:] == ["+50.00", "%"]
    assert lines["FLOPs of products"][3:5] == ["50,000.00", "G"]
    assert lines["FLOPs as bfloat16"][3:5] == ["197,000.00", "G"]
    assert lines["step, at least"][3:5] == ["1,000.000", "ms"]


def test_verdict_has_hours_and_chip_hours_of_the_run():
    assert verdict(compilation(stl=program(0.5)), "stl") == (
        "stl fits: 8.00 of 16 GiB on a chip. A step takes at least 1,000.000 ms, by its products; "
        "the run 1 h and 16 chip-hours"
    )


def test_what_is_larger_than_the_chip_does_not_fit():
    assert verdict(compilation(stl=program(1.5)), "stl").startswith(
        "stl does not fit: 24.00 of 16 GiB on a chip."
    )


def test_what_the_compiler_refuses_does_not_fit_and_has_no_column():
    found = compilation(stl=program(0.5), aft=Refused(20 * GIB, 15.75 * GIB))
    text = format_compilation(found)
    assert text.splitlines()[-1] == (
        "aft does not fit: 20.00 GiB of the 15.75 that programs may use"
    )
    assert "aft adds" not in text


def test_nothing_that_fits_is_no_table():
    text = format_compilation(compilation(stl=Refused(20 * GIB, 15.75 * GIB)))
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize("devices", [1, 2])
def test_memory_is_that_of_a_whole_chip(devices):
    name = {1: "v5e:4x4", 2: "tpu7x:2x2x1"}[devices]
    found = compilation(stl=program(0.5))._replace(slice=parse_topology(name))
    text = format_compilation(found)
    line = next(line for line in text.splitlines() if line.startswith("memory: arguments"))
    assert line.split()[-2:] == [f"{devices * 100:.2f}", "MiB"]


def test_loops_without_a_known_end_are_told():
    known = program(0.5)
    unknown = known._replace(costs=known.costs._replace(unknown_loops=2))
    lines = format_compilation(compilation(stl=known, aft=unknown)).splitlines()
    told = [line for line in lines if "loops" in line]
    assert told == ["aft has 2 loops that run as often as the data say: each is counted once"]
