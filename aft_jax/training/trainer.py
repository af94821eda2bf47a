"""The loop around the step: rows, metrics, evaluation, checkpoints; resumes a run that was killed.

The host waits for the device only every `log_every` steps, to read the metrics of those steps.
"""

import contextlib
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from aft_jax.config import Config
from aft_jax.data import prefetched
from aft_jax.errors import NonFiniteError
from aft_jax.progress import progress_bar
from aft_jax.students import parameter_count, save_student
from aft_jax.training import metrics, workdir
from aft_jax.training.batches import THREADS, train_batch
from aft_jax.training.checkpoint import Checkpoints
from aft_jax.training.evaluate import evaluate_on
from aft_jax.training.experiment import Experiment, build, initial_state
from aft_jax.training.sharding import replicated, row_sharded
from aft_jax.training.state import TrainState
from aft_jax.types import Batch, HostMetrics, Metrics


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
    """
    began = time.monotonic()
    with Checkpoints(directory) as checkpoints:
        state = initial_state(experiment, config.seed)
        if checkpoints.latest is not None:
            state = checkpoints.restore(state)
        first = int(state.step)
        bar.update(first)
        with contextlib.closing(metrics.MetricsWriter(directory, first)) as writer:
            run = _Run(experiment, config, checkpoints, writer)
            for done, batch in enumerate(run.batches(first), start=first + 1):
                state = run.step(state, batch)
                run.after_step(state, done)
                bar.update()
        # A run killed after its last checkpoint has no step left that would have evaluated.
        tune = run.tune or run.evaluate(state)
    return finish(experiment, config, directory, state, tune, time.monotonic() - began)


def finish(
    experiment: Experiment,
    config: Config,
    directory: pathlib.Path,
    state: TrainState,
    tune: dict[str, float],
    seconds: float,
) -> dict[str, Any]:
    """Writes what outlives the run; `result.json` is last and marks it complete."""
    variables = jax.device_get(state.variables)
    save_student(
        directory,
        experiment.name,
        experiment.train.dataset.classes,
        experiment.start.options,
        config.inputs,
        variables,
        experiment.start.origin,
    )
    workdir.save_regularizer(directory, jax.device_get(state.regularizer))
    values = {
        "step": experiment.protocol.steps,
        "tune": tune,
        "parameters": parameter_count(variables),
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
    ):
        self.experiment, self.config = experiment, config
        self.checkpoints, self.writer = checkpoints, writer
        self.steps, self.rate = experiment.protocol.steps, experiment.protocol.rate
        self.order = experiment.protocol.order(config.seed)
        everywhere = replicated(experiment.mesh)
        self.beta = jax.device_put(jnp.float32(config.beta), everywhere)
        self.root = jax.device_put(jax.random.key(config.seed), everywhere)
        self.tune: dict[str, float] = {}
        self.unread: list[Metrics] = []
        self.last_look = time.monotonic()

    def batches(self, first: int) -> Iterator[Batch]:
        """The batches of step `first` and those after it, loaded ahead."""
        rows = row_sharded(self.experiment.mesh)
        data, features = self.experiment.train, self.experiment.features

        def load(step: int) -> Batch:
            return train_batch(data, features, self.order, step, self.config.views, rows)

        return prefetched(load, first, self.steps, THREADS, THREADS)

    def step(self, state: TrainState, batch: Batch) -> TrainState:
        """Dispatches one step without waiting for it."""
        state, values = self.experiment.train_step(state, batch, self.beta, self.root)
        self.unread.append(values)
        return state

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """The student's metrics on the tune split."""
        experiment = self.experiment
        rows, mesh = experiment.config.batch_size, experiment.mesh
        return evaluate_on(experiment.eval_step, state.variables, experiment.tune, rows, mesh)

    def after_step(self, state: TrainState, done: int) -> None:
        """Reads metrics, evaluates and saves, where `done` steps call for it."""
        config = self.config
        last = done == self.steps
        evaluates = done % config.eval_every == 0 or last
        saves = done % config.checkpoint_every == 0 or last
        if done % config.log_every == 0 or evaluates or saves:  # what is saved was found finite
            self._log(done)
        if evaluates:
            self.tune = self.evaluate(state)
            self.writer.write(done, "tune", self.tune)
        if saves:
            self.checkpoints.save(state, done)

    def _log(self, done: int) -> None:
        states: list[HostMetrics] = jax.device_get(self.unread)
        first = done - len(states)
        for step, state in enumerate(states, start=first):
            self._require_finite(step, state)
        now = time.monotonic()
        values = metrics.mean(states) | {
            "learning_rate": float(self.rate(done - 1)),
            "steps_per_second": len(states) / max(now - self.last_look, 1e-9),
        }
        self.writer.write(done, "train", values)
        self.unread, self.last_look = [], now

    def _require_finite(self, step: int, state: HostMetrics) -> None:
        loss, norm = float(state["loss"][0]), float(state["gradient_norm"][0])
        if np.isfinite(loss) and np.isfinite(norm):
            return
        ids = self.experiment.train.dataset.ids[self.order.batch(step)].tolist()
        last = self.checkpoints.latest
        good = f"step {last} in {self.checkpoints.directory}" if last is not None else "none yet"
        raise NonFiniteError(
            f"loss and gradients are finite; at step {step + 1} the loss is {loss} and the "
            f"gradient norm {norm}. Training stopped. Last good checkpoint: {good}, untouched. "
            f"Lower config.optim.learning_rate or look at the batch's examples: {', '.join(ids)}."
        )
