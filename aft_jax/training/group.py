"""Trials that train in one program: what each is, how it ends, what is compiled for them."""

import pathlib
from typing import Any, NamedTuple

from aft_jax.config import Config
from aft_jax.training.experiment import Experiment
from aft_jax.training.stacked import (
    Stack,
    TunerStep,
    compile_copy,
    compile_stacked_eval,
    compile_stacked_step,
    layout_of,
)


class Trial(NamedTuple):
    """One training run of a group.

    Attributes:
        config: differs from the others' in seed and beta only.
        directory: its run directory.
    """

    config: Config
    directory: pathlib.Path


class Outcome(NamedTuple):
    """How a trial ended.

    Attributes:
        result: the content of its `result.json`; None where it failed.
        reason: why it failed; empty where it did not.
        diverged: whether it failed because its loss or a gradient was not finite.
    """

    result: dict[str, Any] | None
    reason: str = ""
    diverged: bool = False


class GroupState(NamedTuple):
    """Exactly what a group's checkpoint holds.

    Attributes:
        stack: states and betas, each leaf [m, ...].
        died: [m] int32, the step, from 1, at which a trial was not finite; 0 while it is.
        schedule: [m, n] float32, each trial's beta at the start of every interval so far.
    """

    stack: Stack
    died: Any
    schedule: Any


class Programs:
    """The compiled functions of groups of one experiment and one step, whatever their size."""

    def __init__(self, experiment: Experiment, step: TunerStep):
        """Compiles nothing yet.

        Args:
            experiment: the trials' common parts.
            step: of one trial, a tuner's.
        """
        self.experiment, self.step = experiment, step
        self._compiled: dict[Any, Any] = {}

    def of(self, trials: int) -> tuple[Any, Any, Any, Any]:
        """(layout, step, evaluation, copy) of a group of so many trials."""
        layout = layout_of(trials, self.experiment.mesh)
        if layout not in self._compiled:
            self._compiled[layout] = (
                compile_stacked_step(self.step, layout),
                compile_stacked_eval(self.experiment.student, layout),
                compile_copy(layout),
            )
        return layout, *self._compiled[layout]
