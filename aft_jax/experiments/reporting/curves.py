"""How metrics moved during training: `metrics.jsonl` of several runs, averaged over seeds."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from aft_jax.errors import UsageError
from aft_jax.types import Float, Int

FILE_NAME = "metrics.jsonl"


@dataclasses.dataclass(frozen=True)
class Curve:
    """One metric over training, mean and spread over seeds.

    Attributes:
        steps: [n] training steps at which every run reported the metric.
        mean: [n] mean over runs.
        std: [n] sample standard deviation over runs; zero for a single run.
        count: number of runs.
    """

    steps: Int[np.ndarray, " n"]
    mean: Float[np.ndarray, " n"]
    std: Float[np.ndarray, " n"]
    count: int


def read_metric(directory: str | os.PathLike[str], split: str, name: str) -> dict[int, float]:
    """One metric of one run.

    A step reported twice (a run that was resumed) counts with its last line. An unfinished last
    line is skipped: it is what a killed run leaves.

    Args:
        directory: the run's directory.
        split: "train", "tune" or "test".
        name: key of the metric, for example "accuracy".

    Returns:
        step -> value, empty where the run never reported the metric.

    Raises:
        FileNotFoundError: the run has no `metrics.jsonl`.
        UsageError: a line is not a JSON object with "step" and "split"; the message names it.
    """
    path = pathlib.Path(directory) / FILE_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: is this the directory of a finished run?")
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        lines.pop()
    values: dict[int, float] = {}
    for index, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            step, row_split = int(row["step"]), row["split"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f'{path}:{index}: a line is a JSON object with "step" and "split", got '
                f"{line!r:.80} ({type(error).__name__}: {error}). Remove the line or run it again."
            ) from error
        if row_split == split and row.get(name) is not None:
            values[step] = float(row[name])
    return dict(sorted(values.items()))


def average(runs: Sequence[dict[int, float]]) -> Curve:
    """Mean and spread of several runs of one method at the steps they share.

    A step that some run lacks is left out: a mean over other seeds at every step would show jumps
    that no run made.

    Args:
        runs: for each run, step -> value.

    Returns:
        The curve; empty where the runs share no step.
    """
    shared = sorted(set.intersection(*map(set, runs))) if runs else []
    values = np.array([[run[step] for step in shared] for run in runs], np.float64)
    values = values.reshape(len(runs), len(shared))
    std = values.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(len(shared))
    mean = values.mean(axis=0) if runs else np.zeros(0)
    return Curve(np.array(shared, np.int64), mean, std, len(runs))
