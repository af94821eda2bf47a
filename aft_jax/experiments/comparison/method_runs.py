"""The training runs of a comparison: the search for beta, then the final runs, each by itself.

A run that fails takes its beta out of the search, or its method out of the comparison; the others
go on. What failed is tried again by the same command, what finished is not.
"""

import dataclasses
import itertools
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
from tqdm import tqdm

from aft_jax.distributed import met_by_all
from aft_jax.errors import UsageError
from aft_jax.experiments.comparison.records import BetaTrial, FailedTrial
from aft_jax.experiments.statistics.results import tune_by_beta
from aft_jax.experiments.trial_names import trial_name
from aft_jax.training import workdir as run_directory
from aft_jax.training.experiment import Experiment
from aft_jax.training.metrics import steps_per_second
from aft_jax.training.trainer import fit

_LOG = logging.getLogger(__name__)


class FinishedRun(NamedTuple):
    """One training run, before the test split is looked at.

    Attributes:
        method: its name.
        beta: weight of the regularizer.
        seed: of the run.
        tune: accuracy on the tune split.
        directory: the run's, relative to the comparison's.
        seconds: wall-clock time since it last started or resumed.
        steps_per_second: median, see `records.Trial`.
        parameters: of what was trained.
    """

    method: str
    beta: float
    seed: int
    tune: float
    directory: str
    seconds: float
    steps_per_second: float
    parameters: int


@dataclasses.dataclass(frozen=True)
class Training:
    """All runs of a comparison.

    Attributes:
        search: the runs that chose beta, of the betas that finished.
        chosen_beta: method -> beta, for those that have one.
        runs: the final runs of the methods that finished, seed by seed.
        failed_trials: the runs that did not finish.
        failed_methods: method -> why it has no final runs here.
    """

    search: tuple[BetaTrial, ...]
    chosen_beta: Mapping[str, float]
    runs: tuple[FinishedRun, ...]
    failed_trials: tuple[FailedTrial, ...]
    failed_methods: Mapping[str, str]


def train_methods(
    experiments: Mapping[str, Experiment], workdir: pathlib.Path, bar: tqdm
) -> Training:
    """Chooses beta for every method that has one, then trains each method once a seed.

    Args:
        experiments: method -> its experiment; they share one plan.
        workdir: directory of the comparison.
        bar: advanced by one a step, `planned_steps` in all.

    Returns:
        The runs.

    Raises:
        ConfigError: a trial's directory belongs to another config.
        UsageError: no method finished.
    """
    search: list[BetaTrial] = []
    failures: list[FailedTrial] = []
    chosen, failed = {}, {}
    seeds = next(iter(experiments.values())).config.compare.seeds
    for method in (name for name, experiment in experiments.items() if experiment.has_beta):
        found, lost = _search(experiments[method], workdir, bar)
        search += found
        failures += lost
        if found:
            chosen[method] = choose_beta(found, method)
        else:
            failed[method] = f"no beta finished; the last failure: {lost[-1].reason}"
            _skip(bar, experiments[method], len(seeds))
    left = {name: part for name, part in experiments.items() if name not in failed}
    runs, lost = _final_runs(left, chosen, seeds, workdir, bar)
    failed |= {
        trial.method: f"its final run with seed {trial.seed} failed: {trial.reason}"
        for trial in lost
    }
    if len(failed) == len(experiments):
        reasons = "; ".join(f"{method}: {reason}" for method, reason in failed.items())
        raise UsageError(f"a comparison needs a method that finishes; none did. {reasons}")
    return Training(
        search=tuple(search),
        chosen_beta={method: beta for method, beta in chosen.items() if method not in failed},
        runs=tuple(run for run in runs if run.method not in failed),
        failed_trials=(*failures, *lost),
        failed_methods=failed,
    )


def planned_steps(experiments: Mapping[str, Experiment]) -> int:
    """Optimizer steps of all runs, those of finished ones included."""
    total = 0
    for experiment in experiments.values():
        plan = experiment.config.compare
        search = len(plan.betas) * len(plan.search_seeds) if experiment.has_beta else 0
        total += (search + len(plan.seeds)) * experiment.protocol.steps
    return total


def choose_beta(search: Sequence[BetaTrial], method: str) -> float:
    """The beta with the best mean on the tune split; of equal ones the smallest.

    Args:
        search: the runs of the search.
        method: whose beta.

    Returns:
        The beta.
    """
    means = {beta: scores.mean for beta, scores in tune_by_beta(search, method).items()}
    return max(sorted(means), key=lambda beta: means[beta])


def _search(
    experiment: Experiment, workdir: pathlib.Path, bar: tqdm
) -> tuple[list[BetaTrial], list[FailedTrial]]:
    """The runs of every beta that finished with all seeds, and one failure of each other one."""
    plan = experiment.config.compare
    found, failures = [], []
    for beta in plan.betas:
        runs = []
        for place, seed in enumerate(plan.search_seeds):
            run = _attempt(experiment, beta, seed, "search", workdir, bar)
            if isinstance(run, FailedTrial):
                failures.append(run)
                _skip(bar, experiment, len(plan.search_seeds) - place - 1)
                break
            runs.append(BetaTrial(run.method, run.beta, run.seed, run.tune))
        else:
            found += runs
    return found, failures


def _final_runs(
    experiments: Mapping[str, Experiment],
    chosen: Mapping[str, float],
    seeds: Sequence[int],
    workdir: pathlib.Path,
    bar: tqdm,
) -> tuple[list[FinishedRun], list[FailedTrial]]:
    """Every method once a seed, seed by seed; one that failed is not tried with further seeds."""
    runs, failures = [], {}
    for seed, method in itertools.product(seeds, experiments):
        experiment = experiments[method]
        if method in failures:
            _skip(bar, experiment, 1)
            continue
        run = _attempt(experiment, chosen.get(method, 0.0), seed, "final", workdir, bar)
        if isinstance(run, FailedTrial):
            failures[method] = run
        else:
            runs.append(run)
    return runs, list(failures.values())


def _attempt(
    experiment: Experiment,
    beta: float,
    seed: int,
    stage: str,
    workdir: pathlib.Path,
    bar: tqdm,
) -> FinishedRun | FailedTrial:
    config = dataclasses.replace(experiment.config, seed=seed, beta=beta)
    directory = f"trials/{trial_name(config.method, beta, seed)}"
    run_directory.claim(workdir / directory, config)
    before, steps = bar.n, experiment.protocol.steps
    try:
        result = run_directory.result(workdir / directory)
        result = result or fit(experiment, config, workdir / directory, bar)
    except (UsageError, jax.errors.JaxRuntimeError) as error:  # diverged, or out of memory
        if not met_by_all(error):
            raise
        reason = str(error)
        _LOG.warning("%s failed, the comparison goes on without it: %s", directory, reason)
        return FailedTrial(config.method, beta, seed, stage, reason)
    finally:
        bar.update(before + steps - bar.n)
    return FinishedRun(
        method=config.method,
        beta=beta,
        seed=seed,
        tune=result["tune"]["accuracy"],
        directory=directory,
        seconds=result["seconds"],
        steps_per_second=steps_per_second(workdir / directory),
        parameters=result["parameters"],
    )


def _skip(bar: tqdm, experiment: Experiment, runs: int) -> None:
    bar.update(runs * experiment.protocol.steps)
