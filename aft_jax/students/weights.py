"""A student on disk: weights and a description, readable without a config.

student/student.json         architecture, options, classes and the hash of the weights
student/model.safetensors    one tensor a variable, named by its path: "params/Conv_0/kernel"
"""

import hashlib
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util
from safetensors import numpy as safetensors

from aft_jax.errors import UsageError
from aft_jax.files import write_whole
from aft_jax.types import PyTree

HEAD = "head"
"""Name of the classifier in every student: what is replaced when the classes change."""


class SavedStudent(NamedTuple):
    """What `load_student` reads.

    Attributes:
        name: architecture.
        num_classes: k.
        options: keyword arguments of the architecture.
        variables: its weights.
        sha256: of the weight file.
    """

    name: str
    num_classes: int
    options: dict[str, Any]
    variables: PyTree
    sha256: str


def save_student(
    run: pathlib.Path, name: str, num_classes: int, options: dict[str, Any], variables: PyTree
) -> None:
    """Writes a student into `run`/student, the description last.

    Args:
        run: the run directory.
        name: architecture.
        num_classes: k.
        options: keyword arguments of the architecture.
        variables: its weights.
    """
    directory = run / "student"
    directory.mkdir(parents=True, exist_ok=True)
    flat = traverse_util.flatten_dict(variables, sep="/")
    weights = safetensors.save({path: np.ascontiguousarray(leaf) for path, leaf in flat.items()})
    write_whole(directory / "model.safetensors", weights)
    description = {
        "name": name,
        "num_classes": num_classes,
        "options": options,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_whole(directory / "student.json", json.dumps(description, indent=2) + "\n")


def load_student(run: pathlib.Path) -> SavedStudent:
    """Reads the student of a finished run.

    Args:
        run: the run directory.

    Returns:
        The student.

    Raises:
        UsageError: there is none, or the weights are not those the description was written for.
    """
    description = read_description(run)
    path = run / "student" / "model.safetensors"
    weights = path.read_bytes()
    sha256 = hashlib.sha256(weights).hexdigest()
    if sha256 != description["sha256"]:
        raise UsageError(
            f"{path} has the hash recorded beside it; expected {description['sha256']}, "
            f"found {sha256}. The file is damaged or was replaced: train again."
        )
    variables = traverse_util.unflatten_dict(safetensors.load(weights), sep="/")
    return SavedStudent(variables=variables, **description)


def read_description(run: pathlib.Path) -> dict[str, Any]:
    """What `student.json` says, without reading the weights.

    Args:
        run: the run directory.

    Returns:
        The fields of `SavedStudent` but for the variables.

    Raises:
        UsageError: the run has no student.
    """
    path = run / "student" / "student.json"
    if not path.exists():
        raise UsageError(
            f"a finished run has a student/ folder; {run} has none. "
            "Run `aft-jax train` with that --workdir to its end first."
        )
    return json.loads(path.read_text())


def with_pretrained_body(variables: PyTree, saved: SavedStudent) -> PyTree:
    """`variables` with every weight but the classifier head's taken from a saved student.

    Args:
        variables: freshly initialised weights.
        saved: the pre-trained student.

    Returns:
        The weights to start from.

    Raises:
        UsageError: the two bodies differ in names or shapes.
    """
    fresh: dict[str, Any] = traverse_util.flatten_dict(variables, sep="/")
    body = {path: leaf for path, leaf in fresh.items() if f"/{HEAD}/" not in path}
    stored: dict[str, Any] = traverse_util.flatten_dict(saved.variables, sep="/")
    wrong = [path for path in body if path not in stored or stored[path].shape != body[path].shape]
    extra = [path for path in stored if path not in fresh]
    if wrong or extra:
        raise UsageError(
            "the pre-trained student has the architecture of this one, but for its head; "
            f"missing or mis-shaped: {wrong or 'none'}, not used here: {extra or 'none'}. "
            f"It was saved as {saved.name} with options {saved.options}."
        )
    return traverse_util.unflatten_dict(fresh | {path: stored[path] for path in body}, sep="/")
