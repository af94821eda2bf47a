"""Runs in training that take turns: each round trains every one of them from its start."""

import statistics
import time
from collections.abc import Mapping

import jax
import numpy as np

from aft_jax.config import Config
from aft_jax.features import TeacherFeatures
from aft_jax.training import build
from aft_jax.training.experiment import initial_state
from aft_jax.training.feed import loaded_ahead, plan_calls
from aft_jax.training.run_data import RunData
from aft_jax.training.sharding import placed, replicated, root_key


class Runner:
    """An experiment, and the calls that its run of `config.steps` steps is made of."""

    def __init__(
        self, config: Config, data: RunData | None = None, features: TeacherFeatures | None = None
    ):
        self.experiment = build(config, data, features)
        self.order = self.experiment.protocol.order(config.seed)
        everywhere = replicated(self.experiment.mesh)
        self.beta = placed(np.asarray(config.beta, np.float32), everywhere)
        self.root = root_key(config.seed, self.experiment.mesh)
        self.steps, size = config.steps, self.order.size
        self.calls = plan_calls(0, config.steps, config.steps_per_call, (), size)

    def seconds_per_step(self) -> float:
        """Trains from step 0; what each call reads is loaded ahead, and only the end waited for."""
        experiment, values = self.experiment, None
        state = jax.block_until_ready(initial_state(experiment, experiment.config.seed))
        began = time.perf_counter()
        for picks in loaded_ahead(experiment.feed, self.order, self.calls):
            state, values = experiment.train_call(
                state, experiment.feed.tables, picks, self.beta, self.root
            )
        jax.block_until_ready((state, values))
        return (time.perf_counter() - began) / self.steps


class Rounds:
    """The times of runs that took turns.

    Attributes:
        seconds: label -> seconds a step in each round.
    """

    def __init__(self, runners: Mapping[str, Runner], repeats: int):
        self.seconds: dict[str, list[float]] = {label: [] for label in runners}
        for runner in runners.values():
            runner.seconds_per_step()  # compiles
        for repeat in range(repeats):
            for label in list(runners)[:: 1 if repeat % 2 else -1]:
                self.seconds[label].append(runners[label].seconds_per_step())

    def median(self, label: str) -> float:
        """Seconds a step."""
        return statistics.median(self.seconds[label])

    def ratio(self, over: str, under: str) -> float:
        """The step time of one by that of another, of each round; the median of these."""
        pairs = zip(self.seconds[over], self.seconds[under], strict=True)
        return statistics.median(first / second for first, second in pairs)
