"""The process that compiles: `python -m aft_jax.aot.child REQUEST ANSWER`, two files of JSON.

libtpu writes to standard error as it is loaded, and cannot be unloaded; here it may do so.
"""

import dataclasses
import json
import pathlib
import sys
from typing import Any

from aft_jax.aot.chips import parse_topology
from aft_jax.aot.costs import program_costs
from aft_jax.aot.lowered import Refusal, compiled_step, slice_devices
from aft_jax.aot.parts import Parts, parts_of_data, parts_of_flags
from aft_jax.config import Config, resolve
from aft_jax.errors import UsageError

FLAGS = "--classes=N and --widths=TEACHER=WIDTH,..."


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Compiles the step of every method that is asked for.

    Args:
        request: "config" as `aft_jax.config.to_json` writes it, "topology", "methods", and
            "classes" and "widths", null where they are read from the data.

    Returns:
        "steps" of the run and "programs": method -> "memory", "costs" or "refused"; or "error",
        what the user has to mend.
    """
    config = resolve(request["config"])
    try:
        wanted = parse_topology(request["topology"])
        devices = slice_devices(wanted)
        programs, steps = {}, 0
        for method in request["methods"]:
            of_method = _config_of(config, method)
            parts = _parts(of_method, request["classes"], request["widths"])
            programs[method] = _measured(compiled_step(of_method, parts, devices), len(devices))
            steps = parts.steps
    except UsageError as error:
        return {"error": str(error)}
    return {"steps": steps, "programs": programs}


def _config_of(config: Config, method: str) -> Config:
    if method == config.method:
        return config
    return dataclasses.replace(config, method=method, method_options={})


def _parts(config: Config, classes: int | None, widths: dict[str, int] | None) -> Parts:
    if classes is not None:
        return parts_of_flags(config, classes, widths or {})
    try:
        return parts_of_data(config)
    except UsageError as error:
        if config.inputs.kind == "array" or config.student.init_from:
            raise  # data and weights are read with the flags too
        raise UsageError(
            f"{error} Or give {FLAGS}: then neither data nor stores are read."
        ) from error


def _measured(program: Any, devices: int) -> dict[str, Any]:
    if isinstance(program, Refusal):
        return {"refused": program._asdict()}
    memory = program.memory_analysis()
    return {
        "memory": {
            "arguments": memory.argument_size_in_bytes,
            "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "peak": memory.peak_memory_in_bytes,
        },
        "costs": program_costs(program.as_text(), devices)._asdict(),
    }


def main(request: str, result: str) -> None:
    """Reads the request and writes the answer."""
    wanted = json.loads(pathlib.Path(request).read_text(encoding="utf-8"))
    pathlib.Path(result).write_text(json.dumps(answer(wanted)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
