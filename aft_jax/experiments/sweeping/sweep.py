"""The `sweep` verb: teachers and beta of one method, chosen on tune, then one look at test.

    1. Every set of teachers trains with every beta and every seed; a trial has its own directory.
    2. The set and beta with the best mean accuracy on tune are chosen.
    3. Their trials are the students, or train again on train and tune together (`retrain`).
    4. Only then is the test split loaded, and each of these students evaluated on it once.

An interrupted sweep resumes; a trial that fails is reported, and tried again by the same command.
"""

import logging
import pathlib
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from aft_jax.config import Config
from aft_jax.distributed import place_among_processes
from aft_jax.errors import ConfigError, NonFiniteError, UsageError
from aft_jax.experiments.sweeping import records
from aft_jax.experiments.sweeping.data import SharedData
from aft_jax.experiments.sweeping.facts import Search, record_of, scored_on_tune
from aft_jax.experiments.sweeping.plan import PlannedTrial, plan_trials, trained_again
from aft_jax.experiments.sweeping.ray_scheduler import require_ray, run_on_ray
from aft_jax.experiments.sweeping.runs import run_trials
from aft_jax.experiments.sweeping.scores import choose, settings_of, summarise
from aft_jax.progress import progress_bar
from aft_jax.training import workdir as run_directory
from aft_jax.training.group import Outcome

_LOG = logging.getLogger(__name__)


def sweep(config: Config, workdir: pathlib.Path) -> str:
    """Runs the sweep that `config.sweep` describes, or what is left of it.

    Args:
        config: the config; its own seed and beta are not used.
        workdir: directory of the sweep; `sweep.json` is written there at the end.

    Returns:
        The table of settings and the result, lines of text.

    Raises:
        ConfigError: a teacher or the method is unknown, or the directory belongs to another config.
        DataError: the data cannot be read, or break a rule.
        NonFiniteError: every trial met a loss or gradient that was not finite.
        UsageError: no trial finished.
    """
    run_directory.check(workdir, config, "sweep")
    finished = _finished(workdir)
    if finished is not None:
        return summarise(finished)
    data = SharedData(config)
    planned = plan_trials(config, data.reads_teachers, data.has_beta)
    runs = len(planned) + config.sweep.retrain * len(config.sweep.seeds)
    with progress_bar(runs * config.steps, f"sweep {workdir}", "step") as bar:
        ends = _run(config, planned, workdir, bar, data)
        trials = scored_on_tune(planned, ends, workdir)
        if not trials:
            raise _nothing_finished(ends)
        chosen = choose(settings_of(trials, config.sweep.tuner))
        judged = [trial.directory for trial in chosen.trials]
        students = [trial for trial in planned if trial.directory in judged]
        if config.sweep.retrain:
            students = trained_again(students, moving=config.sweep.tuner != "grid")
            again = _run(config, students, workdir, bar, data)
            if not any(end.result for end in again.values()):
                raise _nothing_finished(again)
            ends |= again
    found = record_of(Search(config, workdir, data, planned, trials, chosen), students, ends)
    records.save_sweep(found, workdir)
    return summarise(found)


def _run(
    config: Config,
    trials: Sequence[PlannedTrial],
    workdir: pathlib.Path,
    bar: tqdm,
    data: SharedData,
) -> dict[str, Outcome]:
    """How each trial of one stage ended, wherever it ran."""
    if config.sweep.scheduler == "local":
        return run_trials(config, trials, workdir, bar, data)
    if place_among_processes()[1] > 1:
        raise ConfigError(
            "config.sweep.scheduler='ray' gives its jobs to a cluster itself and is called by one "
            "process; got one of several. Start it once, or use 'local'."
        )
    require_ray()
    run_directory.claim(workdir, config, "sweep")
    return run_on_ray(config, trials, workdir, bar)


def _finished(workdir: pathlib.Path) -> records.Sweep | None:
    """The sweep that this directory holds, unless something of it is to be done (again)."""
    if not (workdir / records.FILE_NAME).exists():
        return None
    try:
        found = records.load_sweep(workdir)
    except UsageError as error:
        _LOG.warning("%s Its finished trials are kept.", error)
        return None
    return None if found.failed else found


def _nothing_finished(ends: Mapping[str, Outcome]) -> UsageError:
    reasons = " ".join(dict.fromkeys(end.reason for end in ends.values()))
    kind = NonFiniteError if all(end.diverged for end in ends.values()) else UsageError
    return kind(f"a sweep needs a trial that finishes; none did. {reasons}")
