"""The page of a single training run, and the diagnosis that it makes on the way."""

import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from aft_jax.config import Config
from aft_jax.errors import UsageError
from aft_jax.experiments.comparison.records import TeacherFacts
from aft_jax.experiments.facts import teacher_facts
from aft_jax.experiments.formatting import duration, number, percent, quantity, whole
from aft_jax.experiments.reporting.diagnose import diagnose_run
from aft_jax.experiments.reporting.diagnostics import Diagnostics, load_diagnostics
from aft_jax.experiments.reporting.page import (
    Column,
    Page,
    Section,
    Table,
    figure_cell,
    filled,
    words,
)
from aft_jax.experiments.reporting.pages.cost import cost_section, extractions
from aft_jax.experiments.reporting.pages.learning import learning_section
from aft_jax.experiments.reporting.pages.methods import meanings
from aft_jax.experiments.reporting.pages.predictions import prediction_section
from aft_jax.experiments.reporting.pages.setup import Facts, flat, read_config, setup_section
from aft_jax.experiments.reporting.pages.stores import store_facts, stores_of
from aft_jax.experiments.reporting.pages.teachers import teacher_section
from aft_jax.students import read_description
from aft_jax.training import workdir as run_directory
from aft_jax.training.predictions import predictions_file

_LOG = logging.getLogger(__name__)

METRIC = "accuracy"


class Run(NamedTuple):
    """A finished training run.

    Attributes:
        directory: its own.
        config: its config.
        result: the content of `result.json`.
        evaluations: split -> metrics of the student on it; tune from the run itself.
        classes: names of the classes.
    """

    directory: pathlib.Path
    config: Config
    result: Mapping[str, Any]
    evaluations: Mapping[str, Mapping[str, float]]
    classes: list[str]

    @property
    def name(self) -> str:
        """What the run is called in a table."""
        return self.directory.resolve().name


def load_run(directory: pathlib.Path) -> Run:
    """Reads what a finished run says about itself.

    Args:
        directory: the run's.

    Returns:
        The run.

    Raises:
        UsageError: it is not finished, or a file is damaged.
    """
    config = run_directory.read_config(directory)
    result = run_directory.result(directory)
    if result is None:
        raise UsageError(
            f"a report of a run needs its student; {directory} has a {run_directory.RESULT} and no "
            "student/. Copy the whole directory, or train again."
        )
    evaluations = {"tune": result["tune"]}
    for split in ("train", "tune", "test"):
        path = directory / f"evaluation-{split}.json"
        if path.is_file():
            try:
                evaluations[split] = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise UsageError(
                    f"{path} is not JSON ({error}). `aft-jax evaluate --workdir={directory} "
                    f"--split={split}` rewrites it."
                ) from error
    classes = list(read_description(directory)["classes"])
    return Run(directory, config, result, evaluations, classes)


def run_page(directory: pathlib.Path) -> Page:
    """Everything a training run left, with gates and kernels where its data and stores are there.

    Args:
        directory: the run's.

    Returns:
        The page.

    Raises:
        UsageError: the run is not finished, or a file is damaged.
    """
    run = load_run(directory)
    config, name = run.config, run.config.method
    runs, teachers = {name: [directory]}, teachers_of(config)
    split = next((s for s in ("test", "tune") if predictions_file(directory, s).is_file()), "")
    predictions = _no_predictions(directory)
    if split:
        predictions = prediction_section(runs, split, run.classes, [name])
    return Page(
        title=f"{config.data.name}: {config.student.name} trained with {name}",
        lead=_lead(run),
        outcome="unclear",
        sections=filled(
            [
                Section("Result", meanings([name]), [_scores(run)]),
                learning_section(runs, METRIC, [name], baseline=False),
                teacher_section(diagnosed(directory)),
                predictions,
                cost_section(
                    runs,
                    {name: run.result["seconds"]},
                    {name: run.result["parameters"]},
                    extractions(teachers),
                ),
                setup_section(_facts(run, teachers), read_config(directory), "", _machine(run)),
            ]
        ),
    )


def diagnosed(directory: pathlib.Path) -> Diagnostics | None:
    """Gates and kernels of a run: computed now, or those kept from an earlier report.

    Args:
        directory: the run's.

    Returns:
        The arrays; None where neither can be had, which a warning says.

    Raises:
        UsageError: `diagnostics.npz` is malformed.
    """
    found = load_diagnostics(directory)
    if found is not None and "teacher" in found.kernels:
        return found
    try:
        diagnose_run(directory)
    except UsageError as error:
        _LOG.warning("the report of %s has no new kernels: %s", directory, error)
    return load_diagnostics(directory)


def teachers_of(config: Config) -> dict[str, TeacherFacts]:
    """The teachers whose stores a run read, of those that are still there.

    Args:
        config: of the run.

    Returns:
        Teacher name -> its facts.

    Raises:
        StoreError: a store's manifest is damaged.
    """
    return {} if config.method == "stl" else teacher_facts(config, stores_of(config))


def _no_predictions(directory: pathlib.Path) -> Section:
    return Section(
        "Where the student errs",
        words=[
            f"No predictions are kept: `aft-jax evaluate --workdir={directory} --split=test` "
            "writes them, and the next report shows calibration and confusions."
        ],
    )


def _lead(run: Run) -> str:
    scores = [
        f"{percent(values[METRIC])} % on {split}"
        for split, values in run.evaluations.items()
        if split != "train"
    ]
    beta = f" at beta {number(run.config.beta)}" if run.config.beta else ""
    return (
        f"{run.config.method}{beta}: {METRIC} {' and '.join(scores)} after "
        f"{quantity(run.result['step'], 'step')}. A single run shows no difference between methods."
    )


def _scores(run: Run) -> Table:
    columns = [
        Column("split", "split", numeric=False),
        Column(METRIC, f"{METRIC} (%)"),
        Column("loss", "cross-entropy (nats)"),
    ]
    rows = [
        [
            words(split),
            figure_cell(values[METRIC], percent),
            figure_cell(values["loss"], "{:.4f}".format),
        ]
        for split, values in run.evaluations.items()
    ]
    return Table("results", columns, rows)


def _facts(run: Run, teachers: Mapping[str, TeacherFacts]) -> Facts:
    config, result = run.config, run.result
    origin = config.student.init_from or config.student.pretrained or "random weights"
    facts = [
        ("Data set", f"{config.data.name}, {quantity(len(run.classes), 'class', 'classes')}"),
        (
            "Student",
            f"{config.student.name}, {quantity(result['parameters'], 'parameter')}, starts from "
            f"{origin}",
        ),
        ("Method", f"{config.method}, beta {number(config.beta)}, seed {config.seed}"),
        (
            "Training",
            f"{whole(result['step'])} steps of {quantity(config.batch_size, 'row')}, "
            f"{duration(result['seconds'])} since it last started or resumed",
        ),
    ]
    if result["skipped"]:
        facts.append(("Skipped in train", f"unreadable: {', '.join(result['skipped'])}"))
    return [*facts, *store_facts(teachers, result["parameters"])]


def _machine(run: Run) -> Facts:
    return flat(run.result["environment"]) if "environment" in run.result else ()
