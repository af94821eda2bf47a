"""The section on what was run and on what: facts, config, and the machine."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from aft_jax.errors import UsageError
from aft_jax.experiments.reporting.page import Column, Section, Table, words
from aft_jax.training.workdir import CONFIG

Facts = Sequence[tuple[str, str]]
"""What is said -> the words for it, in the order of the page."""


def setup_section(
    facts: Facts, config: Mapping[str, Any], replaced: str, machine: Facts
) -> Section:
    """Everything that decides the numbers of the page.

    Args:
        facts: data set, student, teachers.
        config: the config, as `config.json` holds it.
        replaced: what the runs change in it, one sentence; empty for nothing.
        machine: versions and devices.

    Returns:
        The section.
    """
    return Section(
        "What was run",
        tables=[
            facts_table("facts", facts),
            facts_table("config", flat(config), "Config", replaced),
            *([facts_table("environment", machine, "Environment")] if machine else []),
        ],
    )


def facts_table(name: str, facts: Facts, title: str = "", note: str = "") -> Table:
    """A list of facts as a table of two columns.

    Args:
        name: of the file.
        facts: its rows.
        title: heading above it.
        note: below it.

    Returns:
        The table.
    """
    columns = [Column(key, key, numeric=False) for key in ("key", "value")]
    rows = [[words(key), words(value)] for key, value in facts]
    return Table(name, columns, rows, title, headed=False, note=note)


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """The config of a directory, as it was written.

    Args:
        workdir: directory of a run, comparison or sweep.

    Returns:
        The content of `config.json`.

    Raises:
        UsageError: it is missing or no JSON object.
    """
    path = workdir / CONFIG
    if not path.is_file():
        raise UsageError(
            f"{path} is missing: a report shows the config of its runs. Copy the whole directory, "
            "or point --workdir at the one that `aft-jax` made."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}). Restore it from the run.") from error
    if not isinstance(config, dict):
        raise UsageError(f"{path} should hold an object, holds {type(config).__name__}.")
    return config


def flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested object as rows of dotted key and value, in its own order.

    Args:
        tree: the object.
        prefix: of its keys.

    Returns:
        The rows.
    """
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            rows += flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            rows.append((f"{prefix}{key}", text))
    return rows
