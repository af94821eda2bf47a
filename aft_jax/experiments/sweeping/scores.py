"""What the trials of a sweep say on the tune split: settings, the best one, and the table."""

import dataclasses
from collections.abc import Sequence

from aft_jax.experiments.formatting import number, quantity, spread
from aft_jax.experiments.statistics.results import Summary, summary
from aft_jax.experiments.sweeping.records import Chosen, Sweep, SweepTrial
from aft_jax.text_table import text_table

CAVEATS = {
    "grid": "",
    "population": "tune judged the members at every exchange: their accuracy on it is optimistic",
    "online": "tune's labels moved beta: the accuracy on it is optimistic",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What was chosen from: a set of teachers with a beta; of populations, a set alone.

    Attributes:
        teachers: name of the set.
        beta: of the grid, at the start where it moved; None for populations.
        trials: one a seed, of a population its best member.
        tune: their metric on the tune split.
    """

    teachers: str
    beta: float | None
    trials: tuple[SweepTrial, ...]
    tune: Summary


def settings_of(trials: Sequence[SweepTrial], tuner: str) -> tuple[Setting, ...]:
    """The settings that have a finished trial, in the order they were run.

    Args:
        trials: the runs that chose.
        tuner: "grid", "population" or "online".

    Returns:
        The settings.
    """
    grouped: dict[Chosen, dict[int, SweepTrial]] = {}
    for trial in trials:
        key = Chosen(trial.teachers, None if tuner == "population" else trial.beta)
        seeds = grouped.setdefault(key, {})
        best = seeds.get(trial.seed)
        if best is None or trial.tune > best.tune:
            seeds[trial.seed] = trial
    return tuple(
        Setting(
            *(key.teachers, key.beta, tuple(seeds.values())),
            summary([trial.tune for trial in seeds.values()]),
        )
        for key, seeds in grouped.items()
    )


def choose(settings: Sequence[Setting]) -> Setting:
    """The setting with the best mean on tune, among those that most seeds finished.

    Args:
        settings: at least one.

    Returns:
        The setting; of equal ones that with the smallest beta, then the first.
    """
    most = max(setting.tune.count for setting in settings)
    complete = [setting for setting in settings if setting.tune.count == most]
    return max(complete, key=lambda setting: (setting.tune.mean, -(setting.beta or 0.0)))


def summarise(sweep: Sweep) -> str:
    """The table of a sweep and its result.

    Args:
        sweep: what was measured.

    Returns:
        Lines of text.
    """
    settings = settings_of(sweep.trials, sweep.tuner)
    return "\n\n".join(
        part for part in (_table(sweep, settings), _verdict(sweep), _failures(sweep)) if part
    )


def _table(sweep: Sweep, settings: Sequence[Setting]) -> str:
    moves = sweep.tuner != "grid"
    head = ["teachers", "beta", *["beta at the end"] * moves, f"tune {sweep.metric}", "seeds", ""]
    rows = [
        [
            setting.teachers,
            _beta(sweep, setting),
            *[", ".join(number(trial.end_beta) for trial in setting.trials)] * moves,
            spread(setting.tune.mean, setting.tune.std),
            str(setting.tune.count),
            "best" if _is_chosen(sweep, setting) else "",
        ]
        for setting in settings
    ]
    return text_table([head, *rows])


def _beta(sweep: Sweep, setting: Setting) -> str:
    """The setting's beta; of a population, the range that its members started from."""
    if setting.beta is not None:
        return number(setting.beta)
    started = [trial.beta for trial in sweep.trials if trial.teachers == setting.teachers]
    return f"{number(min(started))} to {number(max(started))}"


def _is_chosen(sweep: Sweep, setting: Setting) -> bool:
    return Chosen(setting.teachers, setting.beta) == sweep.chosen


def _verdict(sweep: Sweep) -> str:
    test = summary([trial.test for trial in sweep.final])
    again = ", trained again on train and tune" if sweep.retrained else ""
    lines = [
        f"{sweep.method}{_choice(sweep)}; test {sweep.metric} of its "
        f"{quantity(test.count, 'student')}{again}: {spread(test.mean, test.std)}"
    ]
    if CAVEATS[sweep.tuner]:
        lines.append(f"({CAVEATS[sweep.tuner]}; test is untouched by it)")
    return "\n".join(lines)


def _choice(sweep: Sweep) -> str:
    """What was chosen, where there was a choice."""
    if len(settings_of(sweep.trials, sweep.tuner)) == 1 and not sweep.failed:
        return ""
    beta = "" if sweep.chosen.beta is None else f", beta {number(sweep.chosen.beta)}"
    return f", chosen on tune: {sweep.chosen.teachers}{beta}"


def _failures(sweep: Sweep) -> str:
    lines = [f"failed: {trial.directory}: {trial.reason}" for trial in sweep.failed]
    if lines:
        lines.append("The same command tries again what failed, and keeps the rest.")
    return "\n".join(lines)
