"""The parts of a sweep's page about its search: beta curves, schedules, teachers left out."""

from collections.abc import Mapping, Sequence

from aft_jax.experiments.formatting import percent, points, whole
from aft_jax.experiments.reporting.captions import training as captions
from aft_jax.experiments.reporting.page import Column, Picture, Table, figure_cell, words
from aft_jax.experiments.reporting.plots import sweeps as plots_of_sweeps
from aft_jax.experiments.reporting.plots import training as plots
from aft_jax.experiments.statistics.results import Summary, summary
from aft_jax.experiments.sweeping.records import Sweep


def search_picture(sweep: Sweep) -> list[Picture]:
    """The metric on tune against beta, a line for each set of teachers.

    Args:
        sweep: what was measured.

    Returns:
        One picture, or none where no beta was above zero.
    """
    rows = by_set(sweep)
    if not rows:
        return []
    runs = {
        name: [
            (trial.beta, trial.tune)
            for trial in sweep.trials
            if trial.teachers == name and trial.beta > 0
        ]
        for name in rows
    }
    chosen = {}
    if sweep.chosen.beta is not None:
        chosen[sweep.chosen.teachers] = sweep.chosen.beta
    # No set is a baseline: the look of one is left to a name that does not occur.
    figure = plots.beta_curve(rows, runs, chosen, None, ["", *rows], sweep.metric)
    return [
        Picture(
            "beta_curve",
            "The search for beta",
            captions.beta_curve(rows, None, rings=bool(chosen)),
            figure,
        )
    ]


def schedule_picture(sweep: Sweep) -> list[Picture]:
    """How beta moved in the final students.

    Args:
        sweep: what was measured.

    Returns:
        One picture, or none where beta stood still.
    """
    seeds = {trial.directory: f"seed {trial.seed}" for trial in sweep.final}
    moved = {
        seeds.get(directory, directory): (schedule.interval, schedule.betas)
        for directory, schedule in sweep.schedules.items()
    }
    if not moved:
        return []
    figure = plots_of_sweeps.beta_schedules(moved)
    return [Picture("beta_schedule", "How beta moved", captions.beta_schedules(moved), figure)]


def settings(sweep: Sweep) -> dict[tuple[str, float], Summary]:
    """The settings that were tried.

    Args:
        sweep: what was measured.

    Returns:
        (set of teachers, beta) -> metric on tune over seeds, in the order of the sets and betas.
    """
    scores: dict[tuple[str, float], list[float]] = {}
    order = list(sweep.teacher_sets)
    for trial in sorted(sweep.trials, key=lambda t: (order.index(t.teachers), t.beta)):
        scores.setdefault((trial.teachers, trial.beta), []).append(trial.tune)
    return {key: summary(values) for key, values in scores.items()}


def by_set(sweep: Sweep) -> dict[str, dict[float, Summary]]:
    """Set of teachers -> beta above zero -> metric on tune over seeds."""
    rows: dict[str, dict[float, Summary]] = {}
    for (teachers, beta), scores in settings(sweep).items():
        if beta > 0:
            rows.setdefault(teachers, {})[beta] = scores
    return rows


def leave_one_out(sweep: Sweep) -> list[Table]:
    """What leaving out a teacher does to the metric on tune, each set at its own best beta.

    Args:
        sweep: what was measured.

    Returns:
        One table, or none where the sets are not all teachers and all but one.
    """
    sets, rows = {k: set(v) for k, v in sweep.teacher_sets.items()}, by_set(sweep)
    whole_set = max(sets, key=lambda name: len(sets[name]), default=None)
    if whole_set is None or whole_set not in rows:
        return []
    without = {
        next(iter(sets[whole_set] - members)): name
        for name, members in sets.items()
        if name in rows and len(sets[whole_set] - members) == 1 and members < sets[whole_set]
    }
    if not without:
        return []
    best = {
        name: max(betas, key=lambda b, of=betas: (of[b].count, of[b].mean))
        for name, betas in rows.items()
    }
    columns = [
        Column("left_out", "left out", numeric=False),
        Column("tune_without", f"tune {sweep.metric} without it (%)"),
        Column("tune_with", "with all (%)"),
        Column("effect", "effect of the teacher (points)"),
        Column("std", "std over paired seeds (points)"),
        Column("seeds", "paired seeds"),
    ]
    full = _scores(sweep, whole_set, best[whole_set])
    cells = []
    for teacher, name in without.items():
        less = _scores(sweep, name, best[name])
        shared = full.keys() & less.keys()
        if not shared:  # failed trials
            continue
        effect = summary(_paired(full, less))
        rest = summary([less[seed] for seed in sorted(shared)]).mean
        cells.append(
            [
                words(teacher),
                figure_cell(rest, percent),
                figure_cell(rest + effect.mean, percent),
                figure_cell(effect.mean, points),
                figure_cell(effect.std, percent),
                figure_cell(effect.count, whole),
            ]
        )
    if not cells:
        return []
    note = (
        "Every set is at its own best beta. The scores are those that chose, on the tune split; "
        "they flatter every set alike."
    )
    return [Table("leave_one_out", columns, cells, "Teachers left out of training", note=note)]


def _scores(sweep: Sweep, teachers: str, beta: float) -> Mapping[int, float]:
    return {
        trial.seed: trial.tune
        for trial in sweep.trials
        if trial.teachers == teachers and trial.beta == beta
    }


def _paired(full: Mapping[int, float], rest: Mapping[int, float]) -> Sequence[float]:
    return [full[seed] - rest[seed] for seed in sorted(full.keys() & rest.keys())]
