"""Metrics: (sum, count) states, divided once on the host; JSON lines and TensorBoard events."""

import json
import pathlib
import socket
import statistics
import time
from collections.abc import Iterable
from typing import Any

from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from aft_jax.distributed import is_first, meet
from aft_jax.files import full_disk, is_full, write_whole
from aft_jax.types import HostMetrics

FILE = "metrics.jsonl"
_PROTO: Any = event_pb2  # protobuf makes its classes when it is imported
FLUSH_SECONDS = 10.0
"""How long TensorBoard may wait for a value; each flush waits for the disk."""


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
    """Appends to a run's `metrics.jsonl` and TensorBoard events; of several processes the first.

    Events are written here and now: the usual writer's thread ends at the first error, in silence,
    and then lets the run wait for it for ever.
    """

    def __init__(self, workdir: pathlib.Path, first_step: int):
        """Opens the files and drops what lies beyond the step that training resumes from.

        Args:
            workdir: the run directory.
            first_step: steps done; lines of later steps are replayed, so they are removed.

        Raises:
            StorageError: the disk is full.
        """
        self._path = workdir / FILE
        self._writes = is_first()
        there = self._path.exists()
        meet(f"opening {FILE}")  # before the first process adds lines
        if there:
            kept = [line for line in _complete_lines(self._path) if line["step"] <= first_step]
            write_whole(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        if not self._writes:
            return
        events = workdir / "tensorboard"
        events.mkdir(parents=True, exist_ok=True)
        # Usual names have seconds alone: the step tells apart two writers that start in one.
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{first_step}"
        self._events = RecordWriter(str(events / name))
        self._flushed = 0.0
        self._add(file_version="brain.Event:2")
        # TensorBoard hides what older files have from this step on.
        purge = _PROTO.SessionLog(status=_PROTO.SessionLog.START)
        self._add(step=first_step + 1, session_log=purge)

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """Adds one line.

        Args:
            step: optimizer steps done.
            split: which split the values are of: "train", "tune" or "test".
            values: name -> value.

        Raises:
            StorageError: the disk is full.
        """
        if not self._writes:
            return
        line = json.dumps({"step": step, "split": split, **values}) + "\n"
        try:
            with self._path.open("a") as file:
                file.write(line)
            for name, value in values.items():
                self._add(step=step, summary=scalar(f"{split}/{name}", float(value)))
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._events.flush()
                self._flushed = time.monotonic()
        except OSError as error:
            if is_full(error):
                raise full_disk(self._path, len(line)) from error
            raise

    def close(self) -> None:
        """Closes the TensorBoard events.

        Raises:
            StorageError: the disk is full.
        """
        if not self._writes:
            return
        try:
            self._events.close()
        except OSError as error:
            if is_full(error):
                raise full_disk(self._path, 0) from error
            raise

    def _add(self, **fields: Any) -> None:
        event = _PROTO.Event(wall_time=time.time(), **fields)
        self._events.write(event.SerializeToString())


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
