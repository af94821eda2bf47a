"""What moves beta while several trials train: nothing, a schedule, or a tuner that sees tune."""

import json
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from aft_jax.errors import UsageError
from aft_jax.files import write_whole
from aft_jax.training.experiment import Experiment
from aft_jax.training.stacked import TunerStep, with_fixed_beta

FILE = "betas.json"


class Exchange(NamedTuple):
    """What a tuner changes between two steps.

    Attributes:
        sources: [m] trial i goes on with the state of trial `sources[i]`.
        betas: [m] with this beta.
    """

    sources: np.ndarray
    betas: np.ndarray


class Tuner(NamedTuple):
    """How beta moves.

    Attributes:
        step: the step of one trial, pure.
        interval: steps between two exchanges, and between two entries of the schedule.
        exchange: (steps done, [m] tune accuracies, [m] betas) -> what changes; the accuracy of a
            trial that is no longer finite is -inf. None where nothing changes between steps.
        scores: whether `exchange` reads the accuracies; it is called with zeros otherwise.
        reads_tune: whether `step` is given batches of the tune split.
        moves: whether beta may differ from step to step, and is therefore logged and kept.
    """

    step: TunerStep
    interval: int
    exchange: Callable[[int, np.ndarray, np.ndarray], Exchange] | None = None
    scores: bool = False
    reads_tune: bool = False
    moves: bool = True


class Schedule(NamedTuple):
    """The betas that a trial had.

    Attributes:
        interval: steps for which each of them held.
        betas: in order; of a student that was copied from another trial, that trial's before.
    """

    interval: int
    betas: tuple[float, ...]


def fixed(experiment: Experiment) -> Tuner:
    """Every trial keeps its beta.

    Args:
        experiment: whose step is taken.

    Returns:
        The tuner.
    """
    return Tuner(with_fixed_beta(experiment.step), experiment.protocol.steps, moves=False)


def replay(experiment: Experiment, schedules: list[Schedule]) -> Tuner:
    """Every trial follows a schedule; where that is shorter, its last beta holds on.

    Args:
        experiment: whose step is taken.
        schedules: [m], all of one interval.

    Returns:
        The tuner.
    """
    table = np.array([schedule.betas for schedule in schedules], np.float32)

    def exchange(done: int, scores: np.ndarray, betas: np.ndarray) -> Exchange:
        place = min(done // schedules[0].interval, table.shape[1] - 1)
        return Exchange(np.arange(len(betas)), table[:, place])

    step = with_beta_metric(with_fixed_beta(experiment.step))
    return Tuner(step, schedules[0].interval, exchange)


def with_beta_metric(step: TunerStep) -> TunerStep:
    """A step that reports the beta it used as the metric "beta"."""

    def reporting(state, beta, batch, tune, root):
        state, after, metrics = step(state, beta, batch, tune, root)
        return state, after, metrics | {"beta": (beta, jnp.ones_like(beta))}

    return reporting


def save_schedule(directory: pathlib.Path, schedule: Schedule) -> None:
    """Writes a trial's betas into its run directory."""
    content = {"interval": schedule.interval, "betas": list(schedule.betas)}
    write_whole(directory / FILE, json.dumps(content) + "\n")


def load_schedule(directory: pathlib.Path) -> Schedule:
    """Reads what `save_schedule` wrote.

    Args:
        directory: the run directory.

    Returns:
        The schedule.

    Raises:
        UsageError: the file is missing or damaged.
    """
    try:
        raw = json.loads((directory / FILE).read_text())
        return Schedule(int(raw["interval"]), tuple(float(beta) for beta in raw["betas"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"a trial whose beta moved has its betas in {directory / FILE}; {error!r}. Remove "
            f"{directory} and sweep again: the trial is trained anew."
        ) from error
