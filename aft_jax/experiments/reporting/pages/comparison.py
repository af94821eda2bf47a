"""The page of a comparison."""

import pathlib
from collections.abc import Sequence

from aft_jax.errors import UsageError
from aft_jax.experiments.comparison.records import Comparison, load
from aft_jax.experiments.reporting.diagnostics import load_diagnostics
from aft_jax.experiments.reporting.page import Page, filled
from aft_jax.experiments.reporting.pages.cost import cost_section, extractions
from aft_jax.experiments.reporting.pages.learning import Runs, learning_section
from aft_jax.experiments.reporting.pages.predictions import prediction_section
from aft_jax.experiments.reporting.pages.results import choice_section, outcome, result_section
from aft_jax.experiments.reporting.pages.setup import flat, read_config, setup_section
from aft_jax.experiments.reporting.pages.stores import record_facts
from aft_jax.experiments.reporting.pages.teachers import teacher_section
from aft_jax.experiments.statistics.bootstrap import bootstrap_of
from aft_jax.experiments.statistics.results import (
    by_seed,
    headline_method,
    method_order,
    method_results,
)
from aft_jax.experiments.statistics.verdicts import verdict
from aft_jax.students import read_description


def comparison_page(workdir: pathlib.Path) -> Page:
    """Everything a comparison measured; what its files do not hold is left out.

    Args:
        workdir: directory of the comparison.

    Returns:
        The page.

    Raises:
        UsageError: `comparison.json` or `config.json` is missing, a file is malformed, or the
            methods were run with different seeds.
    """
    comparison = load(workdir)
    config = read_config(workdir)
    replicates = bootstrap_of(comparison, workdir)
    results = method_results(comparison, replicates)
    runs = runs_of(workdir, comparison)
    headline = headline_method(comparison)
    shown = [name for name in (method_order(comparison)[0], headline) if name]
    judged = next((result for result in results if result.method == headline), None)
    replaced = "Each run of the comparison replaces method, method_options, beta and seed."
    return Page(
        title=f"{comparison.dataset['name']}: {' against '.join(_sides(method_order(comparison)))}",
        lead=verdict(comparison, replicates=replicates),
        outcome=outcome(judged),
        sections=filled(
            [
                result_section(comparison, results, replicates),
                learning_section(runs, comparison.metric, shown),
                choice_section(workdir, comparison),
                teacher_section(load_diagnostics(workdir)),
                prediction_section(runs, "test", class_names(runs), shown),
                cost_section(
                    runs,
                    {result.method: result.seconds for result in results},
                    _parameters(comparison),
                    extractions(comparison.teachers),
                ),
                setup_section(
                    record_facts(comparison, comparison.trials),
                    config,
                    replaced,
                    flat(comparison.environment),
                ),
            ]
        ),
    )


def runs_of(workdir: pathlib.Path, comparison: Comparison) -> Runs:
    """The directories of the final runs.

    Args:
        workdir: directory of the comparison.
        comparison: what was measured.

    Returns:
        Method -> directories in the order of the seeds; baseline first.
    """
    return {
        method: [workdir / trial.directory for trial in by_seed(comparison, method).values()]
        for method in method_order(comparison)
    }


def class_names(runs: Runs) -> list[str]:
    """The names of the classes, from the first student that says them; else none.

    Args:
        runs: by method.

    Returns:
        The names in the order of the classes.
    """
    for directories in runs.values():
        for directory in directories:
            try:
                return list(read_description(directory)["classes"])
            except UsageError:
                continue
    return []


def _parameters(comparison: Comparison) -> dict[str, int]:
    return {trial.method: trial.parameters for trial in comparison.trials}


def _sides(methods: Sequence[str]) -> list[str]:
    return [", ".join(methods[1:]), methods[0]] if len(methods) > 1 else list(methods)
