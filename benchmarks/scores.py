"""How long each score takes at 50,000 x 1,536, for 10 and for 100 classes.

    python benchmarks/scores.py

The features are generated: a spectrum that falls like that of a trained network, and class means
that leave a linear probe errors to make. Goal: minutes for everything that `aft-jax rank` does with
one teacher of this size.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aft_jax.scores.alignment import alignment_of
from aft_jax.scores.cross_validation import cross_validate
from aft_jax.scores.h_score import h_score_of
from aft_jax.scores.labelled import labelled
from aft_jax.scores.logme import logme_of
from aft_jax.scores.moments import moments
from aft_jax.scores.ped import ped_of
from aft_jax.scores.tmi import tmi_of
from benchmarks.timing import describe_machine

SIGNAL = 0.06


def generate(rows: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, rows)
    means = SIGNAL * rng.normal(size=(classes, width)).astype(np.float32)
    features = rng.standard_normal((rows, width), np.float32) + means[labels]
    features /= np.sqrt(np.arange(1, width + 1, dtype=np.float32))
    rotation, _ = np.linalg.qr(rng.normal(size=(width, width)))
    return features @ rotation.astype(np.float32), labels


def timed(name: str, run: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - began
    shown = f"{result:10.4f}" if isinstance(result, float) else ""
    print(f"  {name:42}{seconds:8.2f} s  {shown}", flush=True)
    return result, seconds


def report(rows: int, width: int, classes: int) -> None:
    features, labels = generate(rows, width, classes)
    print(f"{rows:,} x {width:,}, {classes} classes")
    data, checked = timed("checks", lambda: labelled(features, labels, classes))
    sums, summed = timed("moments, shared by the next five", lambda: moments(data))
    total = checked + summed
    scores: dict[str, Callable[[], float]] = {
        "LogME": lambda: logme_of(sums).score,
        "H-score": lambda: h_score_of(sums),
        "TMI": lambda: tmi_of(sums),
        "PED": lambda: ped_of(sums),
        "alignment": lambda: alignment_of(sums),
        "linear probe, 5 folds": lambda: cross_validate(features, labels, classes).accuracy,
    }
    for name, run in scores.items():
        total += timed(name, run)[1]
    print(f"  {'all':42}{total:8.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--classes", default="10,100")
    flags = parser.parse_args()
    print(describe_machine())
    for classes in flags.classes.split(","):
        report(flags.rows, flags.width, int(classes))


if __name__ == "__main__":
    main()
