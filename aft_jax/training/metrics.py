"""Metrics: (sum, count) states, divided once on the host; JSON lines and TensorBoard events."""

import json
import pathlib
import statistics
from collections.abc import Iterable
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from aft_jax.files import write_whole
from aft_jax.types import HostMetrics

FILE = "metrics.jsonl"


def mean(states: Iterable[HostMetrics]) -> dict[str, float]:
    """Adds up states and divides once.

    Args:
        states: one per batch, on the host; all with the same names.

    Returns:
        Name -> sum of sums / sum of counts, in float64; 0 where nothing was counted.
    """
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for state in states:
        for name, (total, count) in state.items():
            sums[name] = sums.get(name, 0.0) + float(total)
            counts[name] = counts.get(name, 0.0) + float(count)
    return {name: sums[name] / counts[name] if counts[name] else 0.0 for name in sums}


class MetricsWriter:
    """Appends to a run's `metrics.jsonl` and TensorBoard events."""

    def __init__(self, workdir: pathlib.Path, first_step: int):
        """Opens the files and drops what lies beyond the step that training resumes from.

        Args:
            workdir: the run directory.
            first_step: steps done; lines of later steps are replayed, so they are removed.
        """
        self._path = workdir / FILE
        if self._path.exists():
            kept = [line for line in _complete_lines(self._path) if line["step"] <= first_step]
            write_whole(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step + 1)

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """Adds one line.

        Args:
            step: optimizer steps done.
            split: which split the values are of: "train", "tune" or "test".
            values: name -> value.
        """
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        for name, value in values.items():
            self._events.add_scalar(f"{split}/{name}", np.float64(value), step)

    def close(self) -> None:
        """Flushes the TensorBoard events."""
        self._events.close()


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, without a last one that a kill cut short."""
    return _complete_lines(workdir / FILE)


def steps_per_second(workdir: pathlib.Path) -> float:
    """The median speed of a run, over the lines of its metrics; the first apart: it compiles."""
    lines = [line for line in read_metrics(workdir) if line["split"] == "train"]
    rates = [line["steps_per_second"] for line in lines]
    return statistics.median(rates[1:] or rates)


def _complete_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n")]
