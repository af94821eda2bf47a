"""The `compile` verb: a run's train step on a TPU slice, measured without one."""

import dataclasses
import importlib.util
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

from aft_jax.aot.chips import Slice, parse_topology
from aft_jax.aot.costs import Costs
from aft_jax.config import Config
from aft_jax.errors import ConfigError, UsageError

_LOG = logging.getLogger(__name__)

BASELINE = "stl"
"""The method that the others are compared with."""


class Memory(NamedTuple):
    """What a program takes of one device's main memory, in bytes.

    Attributes:
        arguments: state and batch.
        outputs: metrics; the new state takes the place of the old one.
        temporaries: activations and gradients.
        peak: the most at any one time.
    """

    arguments: int
    outputs: int
    temporaries: int
    peak: int


class Refused(NamedTuple):
    """A program that does not fit into a device's main memory.

    Attributes:
        needed: bytes that it takes, by the compiler.
        available: bytes that the compiler lets programs take.
    """

    needed: float
    available: float


class Measured(NamedTuple):
    """A compiled step on one device.

    Attributes:
        memory: what it takes.
        costs: what it does.
    """

    memory: Memory
    costs: Costs


class Compilation(NamedTuple):
    """What `compile_for` found.

    Attributes:
        slice: the chips.
        rows: of the global batch.
        steps: optimizer steps of the run.
        programs: method -> its step; the baseline first.
    """

    slice: Slice
    rows: int
    steps: int
    programs: Mapping[str, Measured | Refused]


def compile_for(
    config: Config,
    topology: str,
    classes: int | None = None,
    widths: Mapping[str, int] | None = None,
) -> Compilation:
    """Compiles the train step of a run, and that of plain fine-tuning, for a slice of TPUs.

    No TPU is needed: the compiler is in the package libtpu.

    Args:
        config: the run's config; `config.devices` is as many as the slice has.
        topology: of the slice, "v5e:4x4".
        classes: k; with it no store is read, no data set but one of arrays, and no weights but
            those of the run that `config.student.init_from` names.
        widths: teacher name -> width of its features; goes with `classes`.

    Returns:
        The measurements.

    Raises:
        UsageError: libtpu is missing, the topology is unknown, or the config does not fit it.
    """
    wanted = parse_topology(topology)
    _check_flags(config, classes, widths)
    if importlib.util.find_spec("libtpu") is None:
        raise UsageError(
            "compiling for TPUs needs the package libtpu; it is not installed. "
            "pip install 'aft_jax[tpu-aot]'."
        )
    methods = list(dict.fromkeys([BASELINE, config.method]))
    _LOG.info("compiling %s for %s", " and ".join(methods), topology)
    found = _ask(
        {
            "config": dataclasses.asdict(config),
            "topology": topology,
            "methods": methods,
            "classes": classes,
            "widths": None if widths is None else dict(widths),
        }
    )
    programs = {name: _program(found["programs"][name]) for name in methods}
    return Compilation(wanted, config.batch_size, found["steps"], programs)


def parse_widths(text: str) -> dict[str, int]:
    """The widths that a flag gives.

    Args:
        text: "dinov2_g=1536,clip_g=1408".

    Returns:
        Teacher name -> width.

    Raises:
        UsageError: it has another form.
    """
    widths: dict[str, int] = {}
    for part in text.split(","):
        name, _, width = part.partition("=")
        number = width.isascii() and width.isdigit() and int(width)
        if not name or not number or name in widths:
            raise UsageError(
                "--widths is TEACHER=WIDTH, separated by commas, one a teacher, like "
                f"dinov2_g=1536,clip_g=1408; got {text!r}."
            )
        widths[name] = number
    return widths


def _check_flags(config: Config, classes: int | None, widths: Mapping[str, int] | None) -> None:
    if classes is not None and classes < 1:
        raise UsageError(f"--classes is at least 1; got {classes}.")
    no_features = config.method == BASELINE or not config.teachers
    together = (classes is None) == (widths is None)
    if not together and not (widths is None and no_features):
        missing = "--classes" if classes is None else "--widths"
        raise ConfigError(
            "--classes=N and --widths=TEACHER=WIDTH,... go together: with both, neither data nor "
            f"stores are read; got no {missing}."
        )


def _ask(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the child answers; its output is kept where it fails."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="aft-jax-compile-"))
    asked, answered, log = (directory / name for name in ("request.json", "answer.json", "log"))
    asked.write_text(json.dumps(request), encoding="utf-8")
    command = [sys.executable, "-m", "aft_jax.aot.child", str(asked), str(answered)]
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command, env=environment(os.environ), stdout=output, stderr=output, check=False
            )
        except BaseException:  # interrupted: nobody asks what the child wrote
            shutil.rmtree(directory)
            raise
    if done.returncode or not answered.exists():
        raise UsageError(
            f"the process that compiles ended with exit status {done.returncode}; the last lines "
            f"that it wrote, of {log}:\n{_tail(log)}"
        )
    answer = json.loads(answered.read_text(encoding="utf-8"))
    shutil.rmtree(directory)
    if "error" in answer:
        raise UsageError(answer["error"])
    return answer


def environment(outer: Mapping[str, str]) -> dict[str, str]:
    """The environment of the process that compiles.

    Args:
        outer: this process's.

    Returns:
        The same, but for what would make JAX look for a TPU, compile for other devices than the
        user's slice or read a cache of programs of this machine.
    """
    kept = {key: value for key, value in outer.items() if key != "XLA_FLAGS"}
    return kept | {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "0",
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }


def _tail(log: pathlib.Path, lines: int = 12) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


def _program(found: Mapping[str, Any]) -> Measured | Refused:
    if "refused" in found:
        return Refused(**found["refused"])
    return Measured(Memory(**found["memory"]), Costs(**found["costs"]))
