"""What AFT adds to a step of the demo's student: the loss and the join of the stored features.

    python benchmarks/step.py

Both methods take whole steps of the trainer (batches loaded ahead, features joined, update) in
turns, on the splits and batch size of `configs/digits.py`. Goal: at most 1.25 times plain
fine-tuning. Needs the demo's first three commands: teacher, pre-training, extraction.
"""

import dataclasses
import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aft_jax.config import resolve
from aft_jax.data import RowOrder, prefetched
from aft_jax.training import build
from aft_jax.training.batches import THREADS, train_batch
from aft_jax.training.experiment import initial_state
from aft_jax.training.sharding import row_sharded
from benchmarks.timing import describe_machine
from configs import digits

REPEATS = 30
STEPS = 20
GOAL = 1.25


class Runner:
    """One method in training, a few steps at a time."""

    def __init__(self, config):
        self.experiment = build(config)
        self.state = initial_state(self.experiment, seed=0)
        self.order = RowOrder(len(self.experiment.train.dataset), config.batch_size, seed=0)
        self.rows = row_sharded(self.experiment.mesh)
        self.beta, self.root = jnp.float32(config.beta), jax.random.key(0)
        self.done = 0

    def load(self, step):
        data, features = self.experiment.train, self.experiment.features
        return train_batch(data, features, self.order, step, 0, self.rows)

    def seconds_per_step(self) -> float:
        metrics = None
        began = time.perf_counter()
        for batch in prefetched(self.load, self.done, self.done + STEPS, THREADS, THREADS):
            self.state, metrics = self.experiment.train_step(
                self.state, batch, self.beta, self.root
            )
        jax.block_until_ready((self.state, metrics))
        self.done += STEPS
        return (time.perf_counter() - began) / STEPS


def main() -> None:
    config = resolve(digits.get_config())
    runners = {
        method: Runner(dataclasses.replace(config, method=method)) for method in ("stl", "aft")
    }
    times: dict[str, list[float]] = {method: [] for method in runners}
    for runner in runners.values():
        runner.seconds_per_step()  # compiles
    for _ in range(REPEATS):
        for method, runner in runners.items():
            times[method].append(runner.seconds_per_step())
    ratios = [aft / stl for stl, aft in zip(times["stl"], times["aft"], strict=True)]
    ratio = statistics.median(ratios)
    print(describe_machine())
    for method, values in times.items():
        print(f"{method}: {1e3 * statistics.median(values):.2f} ms a step (median of {REPEATS})")
    print(f"aft / stl: {ratio:.3f}, goal at most {GOAL}: {'met' if ratio <= GOAL else 'missed'}")


if __name__ == "__main__":
    main()
