"""What follows the verb on the command line: `--config`, its keys, and the flags of the verbs."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import ml_collections
from absl import flags
from ml_collections import config_flags

from aft_jax.config import Config, resolve
from aft_jax.config.file import load_config
from aft_jax.distributed import Processes
from aft_jax.errors import UsageError


class Options(NamedTuple):
    """What the flags said.

    Attributes:
        config: the raw config, or None without --config.
        workdir: the run directory, or None without --workdir.
        split: value of --split.
        rows: value of --rows.
        processes: what the flags say of the processes of the run.
        topology: value of --topology.
        classes: value of --classes; None without it.
        widths: value of --widths.
        runs: directories that follow the flags; `report` alone takes them.
    """

    config: Any
    workdir: pathlib.Path | None
    split: str
    rows: int
    processes: Processes
    topology: str
    classes: int | None
    widths: str
    runs: tuple[pathlib.Path, ...]

    def resolved(self) -> Config:
        """The config, checked.

        Raises:
            UsageError: there is none, or it breaks a rule.
        """
        if self.config is None:
            raise UsageError("this verb needs --config=configs/NAME.py[:arguments].")
        return resolve(self.config)

    def directory(self) -> pathlib.Path:
        """The run directory.

        Raises:
            UsageError: there is none.
        """
        if self.workdir is None:
            raise UsageError("this verb needs --workdir=DIRECTORY.")
        return self.workdir

    def without_config(self, reason: str) -> None:
        """Refuses --config for a verb that reads what a run was started with.

        Args:
            reason: what it reads, for the message.

        Raises:
            UsageError: it was given.
        """
        if self.config is not None:
            raise UsageError(f"{reason}; got --config. Leave it out.")


FLAGS = (
    *("--config", "--config.KEY", "--workdir", "--split", "--rows", "--topology", "--classes"),
    *("--widths", "--coordinator", "--processes", "--process", "--distributed"),
)


def parse(verb: str, words: Sequence[str]) -> Options:
    """Reads the flags, and the config file with its keys changed.

    Args:
        verb: the verb; `report` takes directories besides.
        words: what follows it.

    Returns:
        The options.

    Raises:
        UsageError: a flag is unknown or malformed.
        ConfigError: the config file is not to be had, or refuses its arguments.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config")
    parser.add_argument("--workdir")
    parser.add_argument("--split", default="tune")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--topology", default="")
    parser.add_argument("--classes", type=int)
    parser.add_argument("--widths", default="")
    parser.add_argument("--coordinator", default="")
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--process", type=int, default=-1)
    parser.add_argument("--distributed", action="store_true")
    try:
        known, rest = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise UsageError(f"a flag is written --name=value; {error}.") from error
    runs = [word for word in rest if verb == "report" and not word.startswith("-")]
    rest = [word for word in rest if word not in runs]
    unknown = [word for word in rest if not word.startswith("--config.")]
    if unknown:
        raise UsageError(f"flags are {', '.join(FLAGS)}; got {unknown}.")
    if rest and not known.config:
        raise UsageError(
            f"{rest[0]} changes a key of the file that --config=FILE names; it is missing."
        )
    if "://" in (known.workdir or ""):
        raise UsageError(
            f"--workdir is a directory of the file system; got {known.workdir}. Mount the bucket, "
            "see docs/tpu_vm.md; config.features.directory takes its address as it is."
        )
    config = _overridden(load_config(known.config), rest) if known.config else None
    return Options(
        config=config,
        workdir=None if known.workdir is None else pathlib.Path(known.workdir),
        split=known.split,
        rows=known.rows,
        processes=Processes(known.coordinator, known.processes, known.process, known.distributed),
        topology=known.topology,
        classes=known.classes,
        widths=known.widths,
        runs=tuple(map(pathlib.Path, runs)),
    )


def _overridden(config: ml_collections.ConfigDict, overrides: list[str]) -> Any:
    """The config with `--config.KEY=VALUE` applied, each value in the type of the key."""
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=overrides)
        values(["aft-jax", *overrides])
    except (AttributeError, KeyError) as error:
        reason = str(error.args[0]).replace("\n", " ")
        raise UsageError(
            "--config.KEY=VALUE changes a key that the config has; "
            f"got {' '.join(overrides)}: {reason}"
        ) from error
    return values["config"].value
