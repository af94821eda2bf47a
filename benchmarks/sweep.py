"""Trials of one shape in one program against the same trials one after another.

    python benchmarks/sweep.py

The demo's student: 5 betas x 3 seeds, 200 steps each, files, evaluations and checkpoints included,
in turns. Needs the demo's first three commands: teacher, pre-training, extraction.
"""

import dataclasses
import pathlib
import statistics
import sys
import tempfile
import time

from tqdm import tqdm

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aft_jax.config import resolve
from aft_jax.training import build
from aft_jax.training.capacity import bytes_of_trial
from aft_jax.training.group import Programs, Trial
from aft_jax.training.together import fit_together
from aft_jax.training.trainer import fit
from aft_jax.training.tuner import fixed
from aft_jax.training.workdir import claim
from benchmarks.timing import describe_machine
from configs import digits

REPEATS = 5


class Sweeper:
    """One experiment and its compiled programs; each round trains all trials from the start."""

    def __init__(self, config):
        self.config = config
        self.experiment = build(config)
        self.tuner = fixed(self.experiment)
        self.programs = Programs(self.experiment, self.tuner.step)

    def trials(self, root):
        trials = []
        for seed in self.config.sweep.seeds:
            for beta in self.config.sweep.betas:
                config = dataclasses.replace(self.config, seed=seed, beta=beta)
                trials.append(Trial(config, root / f"beta{beta:g}-seed{seed}"))
                claim(trials[-1].directory, config)
        return trials

    def seconds(self, together: bool) -> float:
        with tempfile.TemporaryDirectory() as name, tqdm(disable=True) as bar:
            root = pathlib.Path(name)
            trials = self.trials(root)
            began = time.perf_counter()
            if together:
                fit_together(self.programs, self.tuner, trials, root / "group", bar)
            else:
                for trial in trials:
                    fit(self.experiment, trial.config, trial.directory, bar)
            return time.perf_counter() - began


def main() -> None:
    config = resolve(digits.get_config())
    # A trial of a sweep is short: one checkpoint, at its end.
    config = dataclasses.replace(config, checkpoint_every=config.steps)
    sweepers = {together: Sweeper(config) for together in (True, False)}
    count = len(config.sweep.betas) * len(config.sweep.seeds)
    times: dict[bool, list[float]] = {True: [], False: []}
    first = {together: sweepers[together].seconds(together) for together in times}
    for repeat in range(REPEATS):
        for together in sorted(times, reverse=repeat % 2 == 0):
            times[together].append(sweepers[together].seconds(together))
    ratios = [alone / group for group, alone in zip(times[True], times[False], strict=True)]
    print(describe_machine())
    print(
        f"{count} trials of {config.steps} steps, {config.student.name}, at most "
        f"{bytes_of_trial(sweepers[True].experiment) / 2**20:.1f} MiB a trial"
    )
    for together, label in {True: "together", False: "one after another"}.items():
        median = statistics.median(times[together])
        print(
            f"{label:18} {median:6.2f} s, {first[together]:6.2f} s with compilation "
            f"(median of {REPEATS})"
        )
    print(
        f"one after another / together: {statistics.median(ratios):.2f}, with compilation "
        f"{first[False] / first[True]:.2f}"
    )


if __name__ == "__main__":
    main()
