"""The page of a sweep."""

import pathlib
import statistics

from aft_jax.experiments.formatting import number, percent, points, quantity, spread, whole
from aft_jax.experiments.reporting.captions import training as captions
from aft_jax.experiments.reporting.page import (
    Column,
    Page,
    Section,
    Table,
    figure_cell,
    filled,
    words,
)
from aft_jax.experiments.reporting.pages.comparison import class_names
from aft_jax.experiments.reporting.pages.cost import cost_section, extractions
from aft_jax.experiments.reporting.pages.learning import learning_section
from aft_jax.experiments.reporting.pages.methods import meanings
from aft_jax.experiments.reporting.pages.predictions import prediction_section
from aft_jax.experiments.reporting.pages.search import (
    leave_one_out,
    schedule_picture,
    search_picture,
    settings,
)
from aft_jax.experiments.reporting.pages.setup import flat, read_config, setup_section
from aft_jax.experiments.reporting.pages.stores import record_facts
from aft_jax.experiments.reporting.pages.teachers import teacher_section
from aft_jax.experiments.reporting.pages.training_run import diagnosed
from aft_jax.experiments.statistics.results import summary
from aft_jax.experiments.sweeping.records import Chosen, Sweep, load_sweep
from aft_jax.experiments.sweeping.scores import settings_of

_TUNERS = {
    "grid": "Every beta of the grid trained with every set of teachers and every seed.",
    "population": "All betas of a seed trained side by side; the worse took over the better "
    "students' state and a beta beside theirs. Tune judged them on the way, so its scores are "
    "optimistic.",
    "online": "Beta moved during training by the gradient of the loss on the tune split, so tune "
    "scores of these runs are optimistic.",
}


def sweep_page(workdir: pathlib.Path) -> Page:
    """Everything a sweep measured, with gates and kernels of the first chosen student.

    Args:
        workdir: directory of the sweep.

    Returns:
        The page.

    Raises:
        UsageError: `sweep.json` or `config.json` is missing, or a file is malformed.
    """
    sweep = load_sweep(workdir)
    config = read_config(workdir)
    final = [workdir / trial.directory for trial in sweep.final]
    runs = {sweep.method: final}
    replaced = "Each run of the sweep replaces teachers, beta and seed."
    seconds = {sweep.method: statistics.median(trial.seconds for trial in sweep.final)}
    # What trained on tune has no curve on tune: those of the runs that chose are shown.
    judged = {sweep.method: [workdir / name for name in _chosen_runs(sweep)]}
    return Page(
        title=f"{sweep.dataset['name']}: sweep of {sweep.method}",
        lead=lead(sweep),
        outcome="unclear",
        sections=filled(
            [
                _result_section(sweep),
                _search_section(sweep),
                learning_section(judged, sweep.metric, [sweep.method], baseline=False),
                teacher_section(diagnosed(final[0]), leave_one_out(sweep)),
                prediction_section(runs, "test", class_names(runs), [sweep.method]),
                cost_section(
                    runs,
                    seconds,
                    {sweep.method: sweep.student["parameters"]},
                    extractions(sweep.teachers),
                ),
                setup_section(
                    record_facts(sweep, sweep.final), config, replaced, flat(sweep.environment)
                ),
            ]
        ),
    )


def _chosen_runs(sweep: Sweep) -> list[str]:
    """Directories of the chosen setting's runs that kept tune apart."""
    if not sweep.retrained:
        return [trial.directory for trial in sweep.final]
    tried = settings_of(sweep.trials, sweep.tuner)
    chosen = next(one for one in tried if Chosen(one.teachers, one.beta) == sweep.chosen)
    return [trial.directory for trial in chosen.trials]


def lead(sweep: Sweep) -> str:
    """What was chosen, and what it scored on test."""
    tune = summary([trial.tune for trial in sweep.final])
    test = summary([trial.test for trial in sweep.final])
    chosen = [] if sweep.chosen.beta is None else [f"beta {number(sweep.chosen.beta)}"]
    if len(sweep.teacher_sets) > 1 and sweep.teacher_sets[sweep.chosen.teachers]:
        chosen.append(f"teachers {sweep.chosen.teachers}")
    said = f" with {' and '.join(chosen)}" if chosen else ""
    test_words, tune_words = (spread(scores.mean, scores.std) for scores in (test, tune))
    return (
        f"Chosen on tune: {sweep.method}{said}. Test {sweep.metric} {test_words} over "
        f"{quantity(test.count, 'seed')}, tune {tune_words}."
    )


def _result_section(sweep: Sweep) -> Section:
    columns = [
        Column("seed", "seed"),
        Column("beta", "beta, at the end"),
        Column(f"tune_{sweep.metric}", f"tune {sweep.metric} (%)"),
        Column(f"test_{sweep.metric}", f"test {sweep.metric} (%)"),
        Column("directory", "student", numeric=False),
    ]
    rows = [
        [
            figure_cell(trial.seed, whole),
            figure_cell(trial.beta, number),
            figure_cell(trial.tune, percent),
            figure_cell(trial.test, percent),
            words(trial.directory),
        ]
        for trial in sweep.final
    ]
    notes = [
        "The final students are those of the chosen setting; the test split was loaded after the "
        "choice and scored once for each."
    ]
    if sweep.retrained:
        notes.append(
            "They trained again on train and tune together; the tune score beside them is that of "
            "the run that chose, which did not train on it."
        )
    table = Table("final", columns, rows)
    return Section("Result", meanings([sweep.method]), [table], notes=notes)


def _search_section(sweep: Sweep) -> Section:
    tried = settings(sweep)
    best = max(scores.mean for scores in tried.values()) if tried else None
    chosen = (sweep.chosen.teachers, sweep.chosen.beta)
    columns = [
        Column("teachers", "teachers", numeric=False),
        Column("beta", "beta" if sweep.tuner == "grid" else "beta, at the start"),
        Column(f"tune_{sweep.metric}", f"tune {sweep.metric}, mean (%)"),
        Column("std", "std over seeds (points)"),
        Column("behind", "behind the best (points)"),
        Column("seeds", "seeds"),
    ]
    rows = []
    for (teachers, beta), scores in tried.items():
        tone = "best" if (teachers, beta) == chosen else ""
        behind = None if best is None else scores.mean - best
        rows.append(
            [
                words(teachers, tone),
                figure_cell(beta, number, tone),
                figure_cell(scores.mean, percent, tone),
                figure_cell(scores.std, percent, tone),
                figure_cell(behind, points, tone),
                figure_cell(scores.count, whole, tone),
            ]
        )
    notes = [_TUNERS.get(sweep.tuner, sweep.tuner)]
    notes += [
        f"{run.teachers} at beta {number(run.beta)} with seed {run.seed} failed in the "
        f"{run.stage}: {run.reason}"
        for run in sweep.failed
    ]
    pictures = [*search_picture(sweep), *schedule_picture(sweep)]
    note = captions.CHOICE_NOTE if chosen in tried else ""
    table = Table("settings", columns, rows, note=note)
    return Section("The search", tables=[table], pictures=pictures, notes=notes)
