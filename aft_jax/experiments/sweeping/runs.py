"""The trials of a sweep on this machine: together where they fit, else one after another.

Finished trials are kept; a trial or a group that was killed goes on from its newest checkpoint; one
that fails is reported and the rest go on.
"""

import itertools
import logging
import pathlib
from collections.abc import Mapping, Sequence

import jax
from tqdm import tqdm

from aft_jax.config import Config
from aft_jax.distributed import met_by_all
from aft_jax.errors import NonFiniteError, UsageError
from aft_jax.experiments.sweeping.data import SharedData
from aft_jax.experiments.sweeping.groups import (
    has_progress,
    open_groups,
    remove_group,
    start_group,
)
from aft_jax.experiments.sweeping.plan import PlannedTrial, trial_config
from aft_jax.training import workdir as run_directory
from aft_jax.training.capacity import trials_that_fit
from aft_jax.training.experiment import Experiment
from aft_jax.training.group import Outcome, Programs, Trial
from aft_jax.training.online import online
from aft_jax.training.population import population
from aft_jax.training.together import fit_together
from aft_jax.training.trainer import fit
from aft_jax.training.tuner import Tuner, fixed, load_schedule, replay

_LOG = logging.getLogger(__name__)


def run_trials(
    config: Config,
    trials: Sequence[PlannedTrial],
    workdir: pathlib.Path,
    bar: tqdm,
    data: SharedData | None = None,
) -> dict[str, Outcome]:
    """The local scheduler: trains what is not finished, set of teachers by set of teachers.

    Args:
        config: the sweep's config.
        trials: all of one stage.
        workdir: directory of the sweep; claimed once the first set of teachers could be built.
        bar: advanced by the steps of every trial, those of finished and failed ones included.
        data: what is loaded already.

    Returns:
        Directory of a trial -> how it ended.

    Raises:
        ConfigError: a directory belongs to another config.
    """
    data = data or SharedData(config)
    outcomes: dict[str, Outcome] = {}
    for _, of_set in itertools.groupby(trials, key=lambda trial: trial.teachers):
        outcomes |= _run_set(config, list(of_set), workdir, bar, data)
    return outcomes


def _run_set(
    config: Config,
    trials: list[PlannedTrial],
    workdir: pathlib.Path,
    bar: tqdm,
    data: SharedData,
) -> dict[str, Outcome]:
    """The trials of one set of teachers."""
    outcomes: dict[str, Outcome] = {}
    for trial in trials:
        result = run_directory.result(workdir / trial.directory)
        if result is not None:
            run_directory.check(workdir / trial.directory, trial_config(config, trial))
            outcomes[trial.directory] = Outcome(result)
    bar.update(len(outcomes) * config.steps)
    if not _pending(config, trials, outcomes):
        return outcomes
    end = bar.n + (len(trials) - len(outcomes)) * config.steps
    try:
        experiment = data.experiment(trial_config(config, trials[0]), trials[0].joined)
    except UsageError as error:
        if not met_by_all(error):
            raise
        _report(trials[0].teachers, error)
        lost = {trial.directory: Outcome(None, str(error)) for trial in trials}
        bar.update(end - bar.n)
        return lost | outcomes
    run_directory.claim(workdir, config, "sweep")
    runner = _SetRunner(config, experiment, workdir, bar)
    groups = _groups(config, experiment, trials, outcomes, workdir)
    for group in groups:
        outcomes |= {name: end for name, end in runner.run(group).items() if name not in outcomes}
    bar.update(end - bar.n)  # what failed took no further steps
    return outcomes


def _pending(
    config: Config, trials: Sequence[PlannedTrial], finished: Mapping[str, Outcome]
) -> list[list[PlannedTrial]]:
    """What is still to be trained, in units that cannot be split: populations, or single trials.

    A member that a finished population lost is no failure: it was the worst.
    """
    if config.sweep.tuner == "population" and not trials[0].joined:
        units = [list(unit) for _, unit in itertools.groupby(trials, key=lambda trial: trial.seed)]
        return [unit for unit in units if not any(t.directory in finished for t in unit)]
    return [[trial] for trial in trials if trial.directory not in finished]


def _groups(
    config: Config,
    experiment: Experiment,
    trials: list[PlannedTrial],
    finished: Mapping[str, Outcome],
    workdir: pathlib.Path,
) -> list[list[PlannedTrial]]:
    """Which trials train together: first the groups that were killed, then new ones."""
    groups = open_groups(workdir, trials, finished)
    taken = {trial.directory for group in groups for trial in group}
    units = [unit for unit in _pending(config, trials, finished) if unit[0].directory not in taken]
    alone = [unit for unit in units if len(unit) == 1 and has_progress(workdir, unit[0])]
    units = [unit for unit in units if unit not in alone]
    if not units:
        return groups + alone
    wanted = sum(map(len, units))
    limit = config.sweep.together
    if limit == 0 and wanted > 1:
        capacity = trials_that_fit(experiment, wanted)
        _LOG.info("%s: %s", trials[0].teachers, capacity.reason)
        limit = capacity.trials
    whole = max(1, limit // len(units[0]))
    new = [_joined(units[i : i + whole]) for i in range(0, len(units), whole)]
    return groups + alone + new


class _SetRunner:
    """Runs the groups of one set of teachers; their programs are compiled once."""

    def __init__(self, config: Config, experiment: Experiment, workdir: pathlib.Path, bar: tqdm):
        self.config, self.experiment = config, experiment
        self.workdir, self.bar = workdir, bar
        self._programs: Programs | None = None

    def run(self, trials: list[PlannedTrial]) -> dict[str, Outcome]:
        """How each trial of a group ended."""
        for trial in trials:
            configured = trial_config(self.config, trial)
            run_directory.claim(self.workdir / trial.directory, configured)
        try:
            ends = self._fit(trials)
        except (UsageError, jax.errors.JaxRuntimeError) as error:
            if not met_by_all(error):
                raise  # what is on disk is gone on from
            divisible = len(self._units(trials)) > 1 and self.config.sweep.together == 0
            if isinstance(error, jax.errors.JaxRuntimeError) and divisible:
                return self._in_halves(trials, error)  # out of memory, most often
            diverged = isinstance(error, NonFiniteError)
            ends = [Outcome(None, str(error), diverged)] * len(trials)
        remove_group(self.workdir, trials)
        for trial, end in zip(trials, ends, strict=True):
            if end.result is None:
                _report(trial.directory, end.reason)
        return {trial.directory: end for trial, end in zip(trials, ends, strict=True)}

    def _fit(self, trials: list[PlannedTrial]) -> list[Outcome]:
        if self._alone(trials):
            config, directory = trial_config(self.config, trials[0]), trials[0].directory
            return [Outcome(fit(self.experiment, config, self.workdir / directory, self.bar))]
        members = [
            Trial(trial_config(self.config, trial), self.workdir / trial.directory)
            for trial in trials
        ]
        tuner = self._tuner(trials)
        # Compiled once for all groups, whose tuners differ in what they know of their trials only.
        self._programs = self._programs or Programs(self.experiment, tuner.step)
        place = start_group(self.workdir, trials)
        return fit_together(self._programs, tuner, members, place, self.bar)

    def _alone(self, trials: list[PlannedTrial]) -> bool:
        fixed_beta = not trials[0].follows and (self.config.sweep.tuner == "grid")
        return len(trials) == 1 and (fixed_beta or has_progress(self.workdir, trials[0]))

    def _tuner(self, trials: list[PlannedTrial]) -> Tuner:
        plan = self.config.sweep
        if trials[0].follows:
            schedules = [load_schedule(self.workdir / trial.follows) for trial in trials]
            return replay(self.experiment, schedules)
        if plan.tuner == "population" and not trials[0].joined:
            seeds = [trial.seed for trial in trials]
            return population(self.experiment, seeds, plan.interval, plan.factor)
        if plan.tuner == "online" and not trials[0].joined:
            return online(self.experiment, plan.beta_learning_rate, self.config.log_every)
        return fixed(self.experiment)

    def _units(self, trials: list[PlannedTrial]) -> list[list[PlannedTrial]]:
        return _pending(self.config, trials, {})

    def _in_halves(self, trials: list[PlannedTrial], error: Exception) -> dict[str, Outcome]:
        units = self._units(trials)
        _LOG.warning("%d trials together failed, in halves now: %s", len(trials), error)
        remove_group(self.workdir, trials)
        half = len(units) // 2
        return self.run(_joined(units[:half])) | self.run(_joined(units[half:]))


def _report(what: str, reason: object) -> None:
    _LOG.warning("%s failed, the rest go on: %s", what, reason)


def _joined(units: Sequence[list[PlannedTrial]]) -> list[PlannedTrial]:
    return [trial for unit in units for trial in unit]
