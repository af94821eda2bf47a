"""The loop around the step of several trials at once; resumes a group that was killed.

Each trial leaves the run directory that it would leave alone. A trial whose loss is no longer
finite is recorded as failed and writes nothing more; the others go on, untouched by it.
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
from aft_jax.data import PaddedRows, RowOrder, evaluation_batches, prefetched
from aft_jax.preemption import Preemption, saved_at
from aft_jax.training import metrics
from aft_jax.training.batches import THREADS, eval_batch, eval_batches, host_batch, with_features
from aft_jax.training.checkpoint import Checkpoints
from aft_jax.training.experiment import initial_state
from aft_jax.training.group import GroupState, Outcome, Programs, Trial
from aft_jax.training.loss_scale import exhausted
from aft_jax.training.sharding import placed, root_keys, to_global
from aft_jax.training.stacked import (
    SeedBatches,
    Stack,
    one_of,
    stacked,
)
from aft_jax.training.state import TrainState
from aft_jax.training.trainer import finish
from aft_jax.training.tuner import Schedule, Tuner, save_schedule
from aft_jax.types import Batch, Metrics


def fit_together(
    programs: Programs,
    tuner: Tuner,
    trials: Sequence[Trial],
    directory: pathlib.Path,
    bar: tqdm,
) -> list[Outcome]:
    """Trains a group from its newest checkpoint to the last step.

    Args:
        programs: of an experiment built from a config that differs from the trials' in seed and
            beta only.
        tuner: whose step the programs take.
        trials: m of them, their directories claimed.
        directory: of the group; its checkpoints are kept there.
        bar: advanced by m a step.

    Returns:
        [m] how each trial ended; the directories of those that finished are whole.
    """
    began = time.monotonic()
    with Preemption() as preemption, Checkpoints(directory) as checkpoints:
        group = _Group(programs, tuner, trials, checkpoints)
        first = group.start()
        bar.update(first * len(trials))
        with contextlib.ExitStack() as files:
            group.writers = [
                files.enter_context(
                    contextlib.closing(metrics.MetricsWriter(trial.directory, first))
                )
                for trial in trials
            ]
            for done, batches in enumerate(group.batches(first), start=first + 1):
                group.step(batches)
                group.after_step(done)
                bar.update(len(trials))
                if preemption.requested():
                    group.leave(done)
                if (group.died > 0).all():
                    break
        if not group.tune:  # killed after the last checkpoint: no step was left to evaluate
            group.evaluate()
        return group.finish(time.monotonic() - began)


class _Group:
    """What the loop carries: the stack, what is known of each trial, and unread metrics."""

    def __init__(
        self,
        programs: Programs,
        tuner: Tuner,
        trials: Sequence[Trial],
        checkpoints: Checkpoints,
    ):
        self.experiment, self.tuner = programs.experiment, tuner
        self.trials, self.checkpoints = trials, checkpoints
        self.layout, self._step, self._eval, self._copy = programs.of(len(trials))
        self.steps = self.experiment.protocol.steps
        self.seeds = list(dict.fromkeys(trial.config.seed for trial in trials))
        which = [self.seeds.index(trial.config.seed) for trial in trials]
        self.which = placed(np.array(which, np.int32), self.layout.trials)
        self.roots = root_keys([trial.config.seed for trial in trials], self.layout.trials)
        self.orders = [self.experiment.protocol.order(seed) for seed in self.seeds]
        self.writers: list[metrics.MetricsWriter] = []
        self.died = np.zeros(len(trials), np.int32)
        intervals = -(-self.steps // self.tuner.interval)
        self.schedule = np.zeros((len(trials), intervals), np.float32)
        self.tune: list[dict[str, float]] = []
        self.unread: list[Metrics] = []
        self.last_look = time.monotonic()

    def start(self) -> int:
        """Makes the stack at step 0 or restores the newest one; returns the steps done."""
        fresh = {seed: initial_state(self.experiment, seed) for seed in self.seeds}
        states = stacked([fresh[trial.config.seed] for trial in self.trials], self.layout)
        self._set_betas(states, np.array([trial.config.beta for trial in self.trials], np.float32))
        done = self.checkpoints.latest
        if done is None:
            self._exchange(0)
            return 0
        like = GroupState(self.stack, self.died, self.schedule)
        self.stack, died, schedule = self.checkpoints.restore(like)
        self.died, self.schedule = np.array(died), np.array(schedule)
        return done

    def batches(self, first: int) -> Iterator[SeedBatches]:
        """The batches of step `first` and those after it, loaded ahead."""
        experiment, rows = self.experiment, self.layout.rows
        tune_rows = len(experiment.tune.dataset)
        size = min(experiment.config.batch_size, tune_rows)
        tune_orders = [RowOrder(tune_rows, size, seed) for seed in self.seeds]

        def load(step: int) -> SeedBatches:
            among = np.concatenate([order.batch(step) for order in self.orders])
            data, views = experiment.train, experiment.config.views
            hosts = [
                host_batch(data, experiment.features, order, step, views, rows, among)
                for order in self.orders
            ]
            train = [Batch(**to_global(host, rows)) for host in hosts]
            if not self.tuner.reads_tune:
                return SeedBatches(tuple(train))
            picked = [_padded(order.batch(step), experiment.config) for order in tune_orders]
            among = np.concatenate([padded.rows for padded in picked])
            tune = [eval_batch(experiment.tune, padded, rows, among) for padded in picked]
            return SeedBatches(tuple(train), tuple(tune))

        return prefetched(load, first, self.steps, THREADS, THREADS)

    def step(self, batches: SeedBatches) -> None:
        """Dispatches one step of all trials without waiting for it."""
        # Here, not in the threads: several processes start their programs in one order.
        features = self.experiment.features
        train = tuple(with_features(batch, features) for batch in batches.train)
        batches = batches._replace(train=train)
        self.stack, values = self._step(self.stack, batches, self.which, self.roots)
        self.unread.append(values)

    def evaluate(self) -> list[dict[str, float]]:
        """Every student's metrics on the tune split."""
        experiment = self.experiment
        padded = evaluation_batches(len(experiment.tune.dataset), experiment.config.batch_size)
        batches = eval_batches(experiment.tune, padded, self.layout.rows)
        variables = self.stack.states.variables
        states = [jax.device_get(self._eval(variables, batch)) for batch in batches]
        self.tune = [_mean_of(states, trial) for trial in range(len(self.trials))]
        return self.tune

    def after_step(self, done: int) -> None:
        """Reads metrics, evaluates, exchanges and saves, where `done` steps call for it."""
        config = self.experiment.config
        last = done == self.steps
        exchanges = done % self.tuner.interval == 0 and not last
        evaluates = done % config.eval_every == 0 or last or (exchanges and self.tuner.scores)
        saves = done % config.checkpoint_every == 0 or last
        if done % config.log_every == 0 or evaluates or exchanges or saves:
            self._log(done)
        if evaluates:
            for trial, values in enumerate(self.evaluate()):
                self._write(trial, done, "tune", values)
        if exchanges:
            self._exchange(done)
        if saves:
            self._save(done)
        self.checkpoints.check()

    def leave(self, done: int) -> NoReturn:
        """Saves at once and ends the group's training."""
        self._log(done)
        self._save(done)
        self.checkpoints.wait()
        raise saved_at(done, self.checkpoints.directory)

    def _save(self, done: int) -> None:
        # The copy is written in the background while the schedule goes on.
        self.checkpoints.save(GroupState(self.stack, self.died, self.schedule.copy()), done)

    def finish(self, seconds: float) -> list[Outcome]:
        """Writes each trial's student and result; a trial's time is its share of the group's."""
        states = jax.device_get(self.stack.states)
        outcomes = []
        for number, trial in enumerate(self.trials):
            if self.died[number]:
                outcomes.append(Outcome(None, self._why(number), diverged=True))
                continue
            if self.tuner.moves:
                betas = tuple(map(float, self.schedule[number]))
                save_schedule(trial.directory, Schedule(self.tuner.interval, betas))
            state: TrainState = one_of(states, number)
            share = seconds / len(self.trials)
            arguments = (trial.config, trial.directory, state, self.tune[number], share)
            outcomes.append(Outcome(finish(self.experiment, *arguments)))
        return outcomes

    def _exchange(self, done: int) -> None:
        """Lets the tuner copy states and set betas, and notes the betas in the schedule."""
        betas = np.asarray(jax.device_get(self.stack.betas), np.float32)
        if self.tuner.exchange is not None:
            scores = np.zeros(len(betas), np.float64)
            if self.tuner.scores and done:
                scores = np.array([values["accuracy"] for values in self.tune], np.float64)
            scores = np.where(self.died > 0, -np.inf, scores)
            sources, betas = self.tuner.exchange(done, scores, betas)
            states = self.stack.states
            if (sources != np.arange(len(betas))).any():
                places = placed(np.asarray(sources, np.int32), self.layout.trials)
                states = self._copy(states, places)
                self.schedule, self.died = self.schedule[sources], self.died[sources]
            self._set_betas(states, betas)
        self.schedule[:, done // self.tuner.interval] = betas

    def _set_betas(self, states: TrainState, betas: np.ndarray) -> None:
        self.stack = Stack(states, placed(np.asarray(betas, np.float32), self.layout.trials))

    def _log(self, done: int) -> None:
        states: list[Any] = jax.device_get(self.unread)
        for step, state in enumerate(states, start=done - len(states) + 1):
            finite = np.isfinite(state["loss"][0]) & np.isfinite(state["gradient_norm"][0])
            finite &= ~exhausted(state)
            self.died = np.where((self.died == 0) & ~finite, np.int32(step), self.died)
        now = time.monotonic()
        rate: Any = self.experiment.protocol.rate(done - 1)
        common = {
            "learning_rate": float(rate),
            "steps_per_second": len(states) / max(now - self.last_look, 1e-9),
        }
        for trial in range(len(self.trials)) if states else ():
            if not self.died[trial]:
                self._write(trial, done, "train", _mean_of(states, trial) | common)
        self.unread, self.last_look = [], now

    def _write(self, trial: int, done: int, split: str, values: dict[str, float]) -> None:
        if not self.died[trial]:
            self.writers[trial].write(done, split, values)

    def _why(self, trial: int) -> str:
        return (
            f"loss and gradients are finite; those of step {self.died[trial]} were not. The trial "
            "stopped there and the others of its group went on. Lower config.optim.learning_rate "
            "or leave this beta out."
        )


def _mean_of(states: Sequence[Any], trial: int) -> dict[str, float]:
    """The means of one trial from states whose sums and counts are [m]."""
    return metrics.mean(
        {name: (total[trial], count[trial]) for name, (total, count) in state.items()}
        for state in states
    )


def _padded(rows: np.ndarray, config: Config) -> PaddedRows:
    """Rows of the tune split as a batch of the size that the devices share."""
    filling = np.zeros(config.batch_size - len(rows), rows.dtype)
    mask = np.concatenate([np.ones(len(rows)), np.zeros(len(filling))]).astype(np.float32)
    return PaddedRows(np.concatenate([rows, filling]), mask)
