"""The run directory: which config it belongs to, and whether its run is complete."""

import json
import pathlib
from typing import Any

from aft_jax.config import Config, differing_keys, resolve, to_json
from aft_jax.errors import ConfigError, UsageError
from aft_jax.files import made_workdir, write_whole
from aft_jax.students import has_student
from aft_jax.tensors import dump_tree, load_tree
from aft_jax.types import PyTree

CONFIG = "config.json"
RESULT = "result.json"
REGULARIZER = "regularizer.safetensors"

FREE = (
    *("features.residency", "features.threads", "features.process", "features.processes"),
    *("sweep.together", "sweep.scheduler"),
    *("devices", "steps_per_call", "state_sharding", "inputs_residency"),
)
"""Keys that say where and how fast things happen, not what comes out (but for rounding): a resumed
run may change them."""


PLANS = ("compare", "sweep")
"""Blocks that plan many runs: each is read by the verb of its name alone."""


def claim(workdir: pathlib.Path, config: Config, plan: str = "") -> None:
    """Makes a directory this config's, or checks that it already is.

    Args:
        workdir: the run directory.
        config: the config about to run.
        plan: the block of `PLANS` that the run reads, if any.

    Raises:
        ConfigError: the directory belongs to another config; the message names the differing keys.
        UsageError: not all processes of the run see the directory.
    """
    check(workdir, config, plan)
    if not (workdir / CONFIG).exists():
        with made_workdir(workdir):
            write_whole(workdir / CONFIG, to_json(config))
        if not (workdir / CONFIG).exists():
            raise UsageError(
                "--workdir is on storage that every process of the run sees; what the first one "
                f"wrote to {workdir.absolute()} is not there for this one. Name a place on NFS or "
                "in a mounted bucket."
            )


def check(workdir: pathlib.Path, config: Config, plan: str = "") -> None:
    """Refuses a directory that belongs to another config, and writes nothing.

    Args:
        workdir: the run directory; need not exist.
        config: the config about to run.
        plan: the block of `PLANS` that the run reads, if any.

    Raises:
        ConfigError: the directory belongs to another config; the message names the differing keys.
        UsageError: it is a file.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UsageError(f"--workdir is a directory; {workdir} is a file. Name another place.")
    if not (workdir / CONFIG).exists():
        return
    unread = {name for name in PLANS if name != plan}
    different = {
        key: values
        for key, values in differing_keys(read_config(workdir), config).items()
        if key not in FREE and key.partition(".")[0] not in unread
    }
    if different:
        values = "; ".join(
            f"{key} is {old!r} there and {new!r} now" for key, (old, new) in different.items()
        )
        raise ConfigError(
            f"a run directory belongs to one config; {workdir} was started with another one: "
            f"{values}. Give the same config to resume it, or another --workdir."
        )


def read_config(workdir: pathlib.Path) -> Config:
    """The config that a run directory belongs to.

    Args:
        workdir: the run directory.

    Returns:
        The config.

    Raises:
        UsageError: no run was started in it.
    """
    path = workdir / CONFIG
    if not path.exists():
        raise UsageError(f"a run directory holds a {CONFIG}; {workdir} has none. Check --workdir.")
    return resolve(json.loads(path.read_text()))


def result(workdir: pathlib.Path) -> dict[str, Any] | None:
    """The result of a complete run, which has its student too; None while it is not complete."""
    path = workdir / RESULT
    if not (path.exists() and has_student(workdir)):
        return None
    return json.loads(path.read_text())


def write_result(workdir: pathlib.Path, values: dict[str, Any]) -> None:
    """Marks a run complete."""
    write_whole(workdir / RESULT, json.dumps(values, indent=2) + "\n")


def save_regularizer(workdir: pathlib.Path, params: PyTree) -> None:
    """Writes the regularizer's parameters (learned scales) beside the student's files."""
    write_whole(workdir / REGULARIZER, dump_tree(params))


def load_regularizer(workdir: pathlib.Path) -> PyTree:
    """Reads what `save_regularizer` wrote."""
    return load_tree((workdir / REGULARIZER).read_bytes())
