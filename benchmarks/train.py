"""Throughput of training: steps a call, AFT over plain fine-tuning, where batches come from.

    python benchmarks/train.py [--part=digits|vit]

Runs take turns, each trained from its start by the calls of the trainer, loaded ahead; compilation
is not counted, and the device is waited for once, at the end of a run. No evaluation, no files.

digits  the demo's student (`configs/digits.py`). Goals on a CPU: with 50 steps a call at least
        twice the steps/s of one a call; AFT at most 1.15 times the step time of plain fine-tuning.
        Needs the demo's first three commands: teacher, pre-training, extraction.
vit     see `benchmarks/vit_step.py`. Goal on a GPU: at batch 128 AFT adds at most 1 % to a step.
"""

import argparse
import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aft_jax.config import Config, resolve
from aft_jax.training.run_data import load_data
from benchmarks import vit_step
from benchmarks.rounds import Rounds, Runner
from benchmarks.timing import describe_machine
from configs import digits

REPEATS = 11
STEPS = 500
MANY = 50
SPEEDUP_GOAL = 2.0
METHOD_GOAL = 1.15


def fed_from(config: Config, place: str) -> Config:
    """The config with inputs and features kept in one place."""
    features = dataclasses.replace(config.features, residency=place)
    return dataclasses.replace(config, inputs_residency=place, features=features)


def measure_digits() -> None:
    config = dataclasses.replace(resolve(digits.get_config()), steps=STEPS)
    data = load_data(config)
    cases = [("stl", "device"), ("aft", "device"), ("aft", "host")]
    runners = {}
    for method, place in cases:
        for count in (1, MANY):
            run = dataclasses.replace(config, method=method, steps_per_call=count)
            runners[f"{method} {place} k={count}"] = Runner(fed_from(run, place), data)
    report(Rounds(runners, REPEATS))


def report(rounds: Rounds) -> None:
    for label in rounds.seconds:
        step = rounds.median(label)
        print(f"{label:16} {1 / step:7.0f} steps/s, {1e3 * step:6.3f} ms a step")
    for method in ("stl", "aft"):
        speedup = rounds.ratio(f"{method} device k=1", f"{method} device k={MANY}")
        verdict = "met" if speedup >= SPEEDUP_GOAL else "missed"
        print(
            f"{method}, steps/s of k={MANY} / k=1: {speedup:.2f}, goal at least {SPEEDUP_GOAL:g}: "
            f"{verdict}"
        )
    for count in (1, MANY):
        over = rounds.ratio(f"aft device k={count}", f"stl device k={count}")
        verdict = "met" if over <= METHOD_GOAL else "missed"
        print(
            f"k={count}, step time of aft / stl: {over:.3f}, goal at most {METHOD_GOAL}: "
            f"{verdict}; the regularizer's share of a step of aft: {1 - 1 / over:.1%}"
        )
    for count in (1, MANY):
        over = rounds.ratio(f"aft host k={count}", f"aft device k={count}")
        print(f"k={count}, step time of aft host-fed / device-resident: {over:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {"digits": measure_digits, "vit": vit_step.main}
    parser.add_argument("--part", choices=parts, help="only this one; both without")
    chosen = parser.parse_args().part
    print(describe_machine(), flush=True)
    for part in [chosen] if chosen else parts:
        print(f"\n{part} (medians)", flush=True)
        parts[part]()
    print(f"\n{describe_machine()}")


if __name__ == "__main__":
    main()
