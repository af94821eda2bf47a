"""A student on disk: weights and a description, readable without a config.

student/student.json         architecture, options, classes and the hash of the weights
student/model.safetensors    one tensor a variable, named by its path: "params/Conv_0/kernel"
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flax import traverse_util

from aft_jax.config import InputsConfig, read_inputs
from aft_jax.errors import UsageError
from aft_jax.files import write_whole
from aft_jax.students.layers.head import HEAD
from aft_jax.tensors import dump_tree, load_tree
from aft_jax.types import PyTree

RUNTIME_OPTIONS = ("dtype", "dropout", "remat")
"""Options that change how a student is computed or trained, not what its weights mean."""

_DESCRIPTION = {
    "name": str,
    "classes": list,
    "options": dict,
    "inputs": dict,
    "origin": dict,
    "sha256": str,
}


class SavedStudent(NamedTuple):
    """What `load_student` reads.

    Attributes:
        name: architecture.
        classes: k class names, in the order of the logits.
        options: keyword arguments of the architecture.
        inputs: what it reads of an example, an `aft_jax.config.InputsConfig`.
        origin: the public checkpoint that it came from, see `PublicStudent.origin`; empty for none.
        variables: its weights.
        sha256: of the weight file.
    """

    name: str
    classes: tuple[str, ...]
    options: dict[str, Any]
    inputs: InputsConfig
    origin: dict[str, Any]
    variables: PyTree
    sha256: str


def save_student(
    run: pathlib.Path,
    name: str,
    classes: Sequence[str],
    options: dict[str, Any],
    inputs: InputsConfig,
    variables: PyTree,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Writes a student into `run`/student, the description last.

    Args:
        run: the run directory.
        name: architecture.
        classes: k class names, in the order of the logits.
        options: keyword arguments of the architecture.
        inputs: what it reads of an example.
        variables: its weights.
        origin: the public checkpoint that it came from, see `PublicStudent.origin`.
    """
    directory = run / "student"
    directory.mkdir(parents=True, exist_ok=True)
    weights = dump_tree(variables)
    write_whole(directory / "model.safetensors", weights)
    description = {
        "name": name,
        "classes": list(classes),
        "options": options,
        "inputs": dataclasses.asdict(inputs),
        "origin": dict(origin or {}),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_whole(directory / "student.json", json.dumps(description, indent=2) + "\n")


def has_student(run: pathlib.Path) -> bool:
    """Whether a run directory holds a saved student, its two files both there."""
    return all((run / "student" / name).exists() for name in ("student.json", "model.safetensors"))


def load_student(run: pathlib.Path) -> SavedStudent:
    """Reads the student of a finished run.

    Args:
        run: the run directory.

    Returns:
        The student.

    Raises:
        UsageError: there is none, its description is damaged, or the weights are missing or not
            those the description was written for.
    """
    description = read_description(run)
    path = run / "student" / "model.safetensors"
    if not path.is_file():
        raise UsageError(
            f"a saved student has its weights beside its description; {path} is missing. "
            "Copy the whole student/ folder, or train again."
        )
    weights = path.read_bytes()
    sha256 = hashlib.sha256(weights).hexdigest()
    if sha256 != description["sha256"]:
        raise UsageError(
            f"{path} has the hash recorded beside it; expected {description['sha256']}, "
            f"found {sha256}. The file is damaged or was replaced: train again."
        )
    return SavedStudent(
        name=description["name"],
        classes=tuple(description["classes"]),
        options=description["options"],
        inputs=read_inputs(description["inputs"]),
        origin=description["origin"],
        variables=load_tree(weights),
        sha256=sha256,
    )


def read_description(run: pathlib.Path) -> dict[str, Any]:
    """What `student.json` says, without reading the weights.

    Args:
        run: the run directory.

    Returns:
        The fields of `SavedStudent` but for the variables.

    Raises:
        UsageError: the run has no student, or its description is damaged.
    """
    path = run / "student" / "student.json"
    if not path.exists():
        raise UsageError(
            f"a finished run has a student/ folder; {run} has none. "
            "Run `aft-jax train` with that --workdir to its end first."
        )
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        found = {key: type(value) for key, value in description.items()}
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{path} is not a student's description: {error}. Train again.") from error
    if found != _DESCRIPTION:
        expected, arrived = (
            ", ".join(f"{key} ({kind.__name__})" for key, kind in kinds.items()) or "nothing"
            for kinds in (_DESCRIPTION, found)
        )
        raise UsageError(f"{path} holds exactly {expected}; found {arrived}. Train again.")
    return description


def with_pretrained_body(
    variables: PyTree,
    saved: SavedStudent,
    name: str,
    options: Mapping[str, Any],
    inputs: InputsConfig,
) -> PyTree:
    """`variables` with every weight but the classifier head's taken from a saved student.

    Args:
        variables: freshly initialised weights; or their shapes alone.
        saved: the pre-trained student.
        name: architecture that `variables` belong to.
        options: its keyword arguments.
        inputs: what this student reads; images may have another size.

    Returns:
        The weights to start from.

    Raises:
        UsageError: the two students differ in architecture, options or the meaning of their
            inputs, or the two bodies in names or shapes.
    """
    check_architecture(saved, name, options)
    _check_inputs(saved.inputs, inputs)
    fresh: dict[str, Any] = traverse_util.flatten_dict(variables, sep="/")
    body = {path: leaf for path, leaf in fresh.items() if not path.startswith(f"params/{HEAD}/")}
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


def _check_inputs(saved: InputsConfig, ours: InputsConfig) -> None:
    """Weights that were trained on other numbers for the same pixels or words are of no use."""
    keys = ["kind"]
    keys += ["mean", "std"] if "image" in ours.kind else []
    keys += ["tokenizer"] if "text" in ours.kind else []
    wrong = [key for key in keys if getattr(saved, key) != getattr(ours, key)]
    if wrong:
        pairs = "; ".join(
            f"config.inputs.{key} is {getattr(ours, key)!r}, it was saved with "
            f"{getattr(saved, key)!r}"
            for key in wrong
        )
        raise UsageError(
            f"the pre-trained student reads what this one reads; {pairs}. Change config.inputs to "
            "match, or pre-train again."
        )


def check_architecture(saved: SavedStudent, name: str, options: Mapping[str, Any]) -> None:
    """Refuses weights of another architecture; strides, for one, leave no trace in shapes.

    Args:
        saved: the pre-trained student.
        name: architecture that is wanted.
        options: its keyword arguments.

    Raises:
        UsageError: the names or options differ, but for `RUNTIME_OPTIONS`.
    """
    as_saved = json.loads(json.dumps(dict(options)))  # JSON knows no tuples
    ours, theirs = (
        {key: value for key, value in one.items() if key not in RUNTIME_OPTIONS}
        for one in (as_saved, saved.options)
    )
    if (name, ours) != (saved.name, theirs):
        raise UsageError(
            "the pre-trained student has the architecture and options of this one; this one is "
            f"{name} with options {as_saved}, config.student.init_from was saved as {saved.name} "
            f"with options {saved.options}. Change config.student to match, or pre-train again."
        )
