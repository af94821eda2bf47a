"""The page of several directories together: comparisons, sweeps and training runs."""

import pathlib
from collections.abc import Sequence

from aft_jax.errors import UsageError
from aft_jax.experiments.formatting import quantity
from aft_jax.experiments.reporting.page import Page, Section, filled
from aft_jax.experiments.reporting.pages.kinds import COMPARISON, RUN, SWEEP, kind_of
from aft_jax.experiments.reporting.pages.many_comparisons import comparison_sections
from aft_jax.experiments.reporting.pages.many_runs import run_sections
from aft_jax.experiments.reporting.pages.many_sweeps import sweep_sections

_PLURALS = {COMPARISON: "comparison", SWEEP: "sweep", RUN: "training run"}


def many_page(directories: Sequence[pathlib.Path]) -> Page:
    """One page about several finished directories, whatever they are.

    Args:
        directories: of comparisons, sweeps and training runs; one given twice counts once.

    Returns:
        The page.

    Raises:
        UsageError: a directory holds nothing that is finished, or a file is malformed.
    """
    unique = list({path.resolve(): path for path in directories}.values())
    kinds: dict[str, list[pathlib.Path]] = {kind: [] for kind in _PLURALS}
    for path in unique:
        kinds[kind_of(path)].append(path)
    sections: list[Section] = []
    leads = []
    for kind, make in (
        (COMPARISON, comparison_sections),
        (SWEEP, sweep_sections),
        (RUN, run_sections),
    ):
        if kinds[kind]:
            lead, parts = make(kinds[kind])
            leads.append(lead)
            sections += parts
    if not sections:
        raise UsageError("a page of several runs needs at least one directory; got none.")
    counts = [quantity(len(paths), _PLURALS[kind]) for kind, paths in kinds.items() if paths]
    return Page(" and ".join(counts), " ".join(leads), "unclear", filled(sections))
