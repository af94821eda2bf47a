"""Which trials a sweep has: sets of teachers x betas x seeds, each with a run directory."""

import dataclasses
import hashlib
from collections.abc import Sequence

from aft_jax.config import Config
from aft_jax.errors import ConfigError
from aft_jax.experiments.trial_names import trial_name

NO_TEACHERS = "none"
LONGEST_NAME = 120
"""Characters of a set's name; file systems allow 255 in a directory's, of which it is a part."""


@dataclasses.dataclass(frozen=True)
class PlannedTrial:
    """One training run of a sweep.

    Attributes:
        teachers: name of its set of teachers.
        names: the teachers.
        beta: its strength of the regularizer; where that moves, at the start.
        seed: of the run.
        directory: the run's, relative to the sweep's.
        follows: directory of the trial whose betas it has, interval by interval; empty for none.
        joined: whether it trains on train and tune together.
    """

    teachers: str
    names: tuple[str, ...]
    beta: float
    seed: int
    directory: str
    follows: str = ""
    joined: bool = False


def teacher_sets(config: Config, reads_teachers: bool = True) -> dict[str, tuple[str, ...]]:
    """The sets of teachers that `config.sweep.teachers` names, each once.

    Args:
        config: the sweep's config.
        reads_teachers: whether the method does; without it the only set is the empty one.

    Returns:
        Name of a set, its teachers joined by "+" -> the teachers, in the config's order.

    Raises:
        ConfigError: a teacher is unknown, or there is none to leave out.
    """
    if not reads_teachers:
        return {NO_TEACHERS: ()}
    everyone = tuple(config.teachers)
    sets = [names for entry in config.sweep.teachers for names in _sets_of(entry, everyone)]
    return {set_name(names): names for names in sets}


def set_name(names: Sequence[str]) -> str:
    """What a set of teachers is called, in tables and in the names of directories."""
    whole = "+".join(names) or NO_TEACHERS
    if len(whole) <= LONGEST_NAME:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{len(names)}-teachers-{digest}"


def plan_trials(config: Config, reads_teachers: bool, has_beta: bool) -> list[PlannedTrial]:
    """The trials that choose, set by set.

    Args:
        config: the sweep's config.
        reads_teachers: whether the method does.
        has_beta: whether its loss has a term that beta multiplies; without it the only beta is 0.

    Returns:
        The trials; of one set seed by seed, the betas of a seed side by side.

    Raises:
        ConfigError: a teacher is unknown, or there is none to leave out.
    """
    betas = config.sweep.betas if has_beta else (0.0,)
    return [
        PlannedTrial(name, names, beta, seed, f"trials/{trial_name(name, beta, seed)}")
        for name, names in teacher_sets(config, reads_teachers).items()
        for seed in config.sweep.seeds
        for beta in betas
    ]


def trained_again(trials: Sequence[PlannedTrial], moving: bool) -> list[PlannedTrial]:
    """The trials that train the chosen setting again, on train and tune together.

    Args:
        trials: those that chose, one a seed.
        moving: whether their betas moved, and are followed.

    Returns:
        The trials, under `final/`.
    """
    return [
        dataclasses.replace(
            trial,
            directory=f"final/{trial_name(trial.teachers, trial.beta, trial.seed)}",
            follows=trial.directory if moving else "",
            joined=True,
        )
        for trial in trials
    ]


def trial_config(config: Config, trial: PlannedTrial) -> Config:
    """The config of one training run.

    Args:
        config: the sweep's.
        trial: the run.

    Returns:
        The config that its directory belongs to.
    """
    teachers = {name: config.teachers[name] for name in trial.names}
    # A method that reads no teachers may still have them in its config, as `train` would.
    teachers = teachers or config.teachers
    return dataclasses.replace(config, teachers=teachers, beta=trial.beta, seed=trial.seed)


def _sets_of(entry: str, everyone: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The sets that one entry of `config.sweep.teachers` stands for."""
    if entry == "all":
        return [everyone]
    if entry == "each":
        return [(name,) for name in everyone]
    if entry == "leave_one_out":
        if len(everyone) < 2:
            raise ConfigError(
                "config.sweep.teachers: 'leave_one_out' needs two teachers or more; "
                f"config.teachers has {', '.join(everyone) or 'none'}. Use 'all'."
            )
        return [tuple(name for name in everyone if name != out) for out in everyone]
    names = set(entry.split("+"))
    if unknown := sorted(names - set(everyone)):
        raise ConfigError(
            "config.sweep.teachers joins names of config.teachers by '+', or is 'all', 'each' or "
            f"'leave_one_out'; got {entry!r}, of which {', '.join(map(repr, unknown))} is none of "
            f"{', '.join(everyone) or '(no teachers)'}."
        )
    return [tuple(name for name in everyone if name in names)]
