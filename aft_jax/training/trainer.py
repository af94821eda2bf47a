"""The loop around the steps: calls, metrics, evaluation, checkpoints; resumes a killed run.

The host reads metrics every `log_every` steps, while the next call runs; it waits for the device
only to evaluate and to save.
"""

import contextlib
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import jax
import numpy as np
from tqdm import tqdm

from aft_jax.config import Config
from aft_jax.errors import NonFiniteError
from aft_jax.preemption import Preemption, saved_at
from aft_jax.progress import progress_bar
from aft_jax.students import parameter_count, save_student
from aft_jax.training import metrics, workdir
from aft_jax.training.checkpoint import Checkpoints
from aft_jax.training.evaluate import evaluate_on
from aft_jax.training.experiment import Experiment, build, initial_state
from aft_jax.training.feed import loaded_ahead, plan_calls
from aft_jax.training.loss_scale import fault
from aft_jax.training.sharding import gathered, placed, replicated, root_key
from aft_jax.training.state import TrainState
from aft_jax.types import HostMetrics, Metrics, PyTree


def train(config: Config, directory: pathlib.Path) -> dict[str, Any]:
    """The `train` verb: trains one student, or resumes, or returns the result of a complete run.

    Args:
        config: the run's config.
        directory: the run directory.

    Returns:
        The content of `result.json`: "step", "tune" metrics, "parameters", the examples of train
        that were "skipped" because they cannot be read, and "seconds".

    Raises:
        ConfigError: the config breaks a rule, or the directory belongs to another config.
        StoreError: a feature store is missing or does not fit.
        NonFiniteError: a loss or gradient was not finite.
    """
    workdir.check(directory, config)
    finished = workdir.result(directory)
    if finished is not None:
        return finished
    experiment = build(config)
    workdir.claim(directory, config)  # only now: a config that cannot be built claims nothing
    with progress_bar(experiment.protocol.steps, f"train {directory}", "step") as bar:
        return fit(experiment, config, directory, bar)


def fit(
    experiment: Experiment, config: Config, directory: pathlib.Path, bar: tqdm
) -> dict[str, Any]:
    """Runs an experiment from its newest checkpoint to the last step.

    Args:
        experiment: built from this config or from one that differs in seed and beta only.
        config: the run's config; its seed and beta are the ones used.
        directory: the run directory.
        bar: advanced by one a step.

    Returns:
        The content of `result.json`.

    Raises:
        NonFiniteError: a loss or gradient was not finite; nothing of it was checkpointed.
        Preempted: SIGTERM came; the state is saved.
        StorageError: the disk is full, or a checkpoint could not be written or read.
    """
    began = time.monotonic()
    with Preemption() as preemption, Checkpoints(directory) as checkpoints:
        state = initial_state(experiment, config.seed)
        if checkpoints.latest is not None:
            state = checkpoints.restore(state)
        first = int(state.step)
        bar.update(first)
        with contextlib.closing(metrics.MetricsWriter(directory, first)) as writer:
            run = _Run(experiment, config, checkpoints, writer, first)
            calls = run.plan(first)
            for steps, picks in zip(calls, run.picks(calls), strict=True):
                state = run.call(state, steps, picks)
                run.after_call(state, steps)
                bar.update(len(steps))
                if preemption.requested():
                    run.leave(state, steps.stop)
        # A run killed after its last checkpoint has no step left that would have evaluated.
        tune = run.tune or run.evaluate(state)
    kept = jax.device_get(gathered(state._replace(opt_state=()), experiment.mesh))
    return finish(experiment, config, directory, kept, tune, time.monotonic() - began)


def finish(
    experiment: Experiment,
    config: Config,
    directory: pathlib.Path,
    state: TrainState,
    tune: dict[str, float],
    seconds: float,
) -> dict[str, Any]:
    """Writes what outlives the run, `state` on the host; `result.json` marks it complete."""
    save_student(
        directory,
        experiment.name,
        experiment.train.dataset.classes,
        experiment.start.options,
        config.inputs,
        state.variables,
        experiment.start.origin,
    )
    workdir.save_regularizer(directory, state.regularizer)
    values = {
        "step": experiment.protocol.steps,
        "tune": tune,
        "parameters": parameter_count(state.variables),
        "skipped": list(experiment.train.dataset.skipped),
        "seconds": seconds,
    }
    workdir.write_result(directory, values)
    return values


class _Run:
    """What the loop carries besides the state: open files, and metrics that are not read yet."""

    def __init__(
        self,
        experiment: Experiment,
        config: Config,
        checkpoints: Checkpoints,
        writer: metrics.MetricsWriter,
        first: int,
    ):
        self.experiment, self.config = experiment, config
        self.checkpoints, self.writer = checkpoints, writer
        self.steps, self.rate = experiment.protocol.steps, experiment.protocol.rate
        self.order = experiment.protocol.order(config.seed)
        everywhere = replicated(experiment.mesh)
        self.beta = placed(np.asarray(config.beta, np.float32), everywhere)
        self.root = root_key(config.seed, experiment.mesh)
        self.tune: dict[str, float] = {}
        self.unread: list[tuple[range, Metrics]] = []
        self.read: list[HostMetrics] = []  # of the steps from `written` on
        self.written = first
        self.last_look = time.monotonic()

    def plan(self, first: int) -> list[range]:
        """The steps of each compiled call, from step `first` on."""
        config = self.config
        stops = (config.eval_every, config.checkpoint_every)
        return plan_calls(first, self.steps, config.steps_per_call, stops, self.order.size)

    def picks(self, calls: Sequence[range]) -> Iterator[PyTree]:
        """What each call reads, loaded ahead."""
        return loaded_ahead(self.experiment.feed, self.order, calls)

    def call(self, state: TrainState, steps: range, picks: PyTree) -> TrainState:
        """Dispatches the steps of one call without waiting for them."""
        experiment = self.experiment
        state, values = experiment.train_call(
            state, experiment.feed.tables, picks, self.beta, self.root
        )
        self.unread.append((steps, values))
        return state

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """The student's metrics on the tune split."""
        experiment = self.experiment
        rows, mesh = experiment.config.batch_size, experiment.mesh
        variables = gathered(state.variables, mesh)
        return evaluate_on(experiment.eval_step, variables, experiment.tune, rows, mesh)

    def after_call(self, state: TrainState, steps: range) -> None:
        """Reads metrics, evaluates and saves, where the steps done call for it."""
        config, done = self.config, steps.stop
        last = done == self.steps
        evaluates = done % config.eval_every == 0 or last
        saves = done % config.checkpoint_every == 0 or last
        if evaluates or saves:  # what is saved was found finite
            self._log(done, partly=True)
        elif steps.start - self.written >= config.log_every:
            self._log(steps.start)  # this call runs meanwhile
        if evaluates:
            self.tune = self.evaluate(state)
            self.writer.write(done, "tune", self.tune)
        if saves:
            self.checkpoints.save(state, done)
        self.checkpoints.check()

    def leave(self, state: TrainState, done: int) -> NoReturn:
        """Saves at once and ends the run."""
        self._log(done, partly=True)  # what is saved was found finite
        self.checkpoints.save(state, done)
        self.checkpoints.wait()
        raise saved_at(done, self.checkpoints.directory)

    def _log(self, done: int, partly: bool = False) -> None:
        """Reads the metrics of the steps before `done`, and writes a line for each interval.

        Args:
            done: steps, at the end of a call.
            partly: whether an interval that is not over has a line, too.
        """
        ready = [values for steps, values in self.unread if steps.stop <= done]
        self.unread = self.unread[len(ready) :]
        before = self.written + len(self.read)
        for call in jax.device_get(ready):
            self.read += _by_step(call)
        for step in range(before, done):
            self._require_finite(step, self.read[step - self.written])
        now = time.monotonic()
        speed = (done - before) / max(now - self.last_look, 1e-9)
        self.last_look = now
        every = self.config.log_every
        ends = [*range((self.written // every + 1) * every, done + 1, every)]
        for end in [*ends, done] if partly and done not in ends else ends:
            self._write_line(end, speed)

    def _write_line(self, done: int, speed: float) -> None:
        count = done - self.written
        if not count:  # resumed here
            return
        values = metrics.mean(self.read[:count]) | {
            "learning_rate": float(self.rate(done - 1)),
            "steps_per_second": speed,
        }
        self.writer.write(done, "train", values)
        self.read, self.written = self.read[count:], done

    def _require_finite(self, step: int, state: HostMetrics) -> None:
        said = fault(state)
        if not said:
            return
        ids = self.experiment.train.dataset.ids[self.order.batch(step)].tolist()
        last = self.checkpoints.latest
        good = f"step {last} in {self.checkpoints.directory}" if last is not None else "none yet"
        raise NonFiniteError(
            f"loss and gradients are finite; at step {step + 1} {said}. Training stopped. "
            f"Last good checkpoint: {good}, untouched. "
            f"Lower config.optim.learning_rate or look at the batch's examples: {', '.join(ids)}."
        )


def _by_step(call: PyTree) -> list[HostMetrics]:
    """The metrics of each step of a call, from arrays [k] on the host."""
    steps = len(next(iter(call.values()))[0])
    return [
        {name: (total[step], count[step]) for name, (total, count) in call.items()}
        for step in range(steps)
    ]
