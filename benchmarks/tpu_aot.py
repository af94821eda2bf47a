"""What AFT adds to a step on TPU slices, from programs compiled for them on a machine without one.

    python benchmarks/tpu_aot.py [TOPOLOGY ...]

ViT-S/16 at 224 pixels in bfloat16 (`configs/cifar100_vit_s.py`) with the features of two giants, at
a global batch of 4,096. Goals: the step fits; over plain fine-tuning AFT adds at most 0.5 % of a
chip's FLOPs and 1 % of its memory traffic, needs at most 1.25 times the temporaries, and sends no
more than the features themselves twice. Needs libtpu: pip install 'aft_jax[tpu-aot]'.
"""

import importlib.metadata
import pathlib
import sys
import time
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aft_jax.aot import Compilation, compile_for, format_compilation
from aft_jax.aot.compilation import BASELINE, Measured
from aft_jax.aot.parts import without_weights
from aft_jax.config import Config, resolve
from benchmarks.timing import describe_machine
from configs import cifar100_vit_s

TOPOLOGIES = ("v5e:4x4", "v6e:16x16", "v5p:8x8x8")
CLASSES, WIDTHS, ROWS = 100, {"dinov2_g": 1536, "clip_g": 1408}, 4096
FLOAT = 4  # bytes


class Goal(NamedTuple):
    """A number that is to be at most another one."""

    name: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        return self.value <= self.limit


def config() -> Config:
    raw = cifar100_vit_s.get_config()
    raw.batch_size, raw.precision = ROWS, "bfloat16"
    return resolve(raw)


def goals(found: Compilation, of: Config) -> list[Goal]:
    """The goals of a compiled run; what does not compile meets none."""
    base, more = found.programs[BASELINE], found.programs[of.method]
    if not isinstance(base, Measured) or not isinstance(more, Measured):
        return [Goal("programs that do not fit", 1, 0)]
    width = without_weights(of).student.options["width"] + sum(WIDTHS.values())
    sent = sum(more.costs.sent.values()) - sum(base.costs.sent.values())
    peak = found.slice.chip.devices * more.memory.peak
    return [
        Goal("peak memory / memory of the chip", peak / found.slice.chip.hbm, 1),
        Goal("FLOPs added", more.costs.flops / base.costs.flops - 1, 0.005),
        Goal("memory traffic added", more.costs.memory / base.costs.memory - 1, 0.01),
        Goal("temporaries", more.memory.temporaries / base.memory.temporaries, 1.25),
        Goal("sent / the features", sent / (ROWS * width * FLOAT), 2),
    ]


def main(topologies: list[str]) -> None:
    print(describe_machine(), f"libtpu {importlib.metadata.version('libtpu')}", sep="; ")
    of = config()
    for topology in topologies or TOPOLOGIES:
        began = time.perf_counter()
        found = compile_for(of, topology, CLASSES, WIDTHS)
        print(f"\n{format_compilation(found)}")
        print(f"compiled in {time.perf_counter() - began:.0f} s")
        for goal in goals(found, of):
            verdict = "met" if goal.met else "missed"
            print(f"  {goal.name}: {goal.value:.4f}, goal at most {goal.limit:g}: {verdict}")


if __name__ == "__main__":
    main(sys.argv[1:])
