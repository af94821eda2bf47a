"""A trained student under the names of the public checkpoint it came from, for torch to load."""

import json
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import numpy as safetensors

from aft_jax.errors import UsageError
from aft_jax.files import write_whole
from aft_jax.hub import (
    Checkpoint,
    Source,
    find_checkpoint,
    read_json,
    tokenizer_files,
    weight_files,
)
from aft_jax.lazy_tensors import open_tensors
from aft_jax.students import SavedStudent, load_student
from aft_jax.students.pretrained.format import Format
from aft_jax.students.pretrained.formats import FORMATS
from aft_jax.students.pretrained.public import public_tensors
from aft_jax.students.weights import RUNTIME_OPTIONS

PROCESSORS = ("preprocessor_config.json", "processor_config.json")
ORIGIN = {"source", "revision", "format", "description"}
LENGTHS = ("size", "crop_size")
"""Settings of an image processor that are pixels."""


def export(run: pathlib.Path) -> pathlib.Path:
    """The `export` verb: writes `run`/export for timm or transformers to load.

    Args:
        run: a finished run whose student started from public weights.

    Returns:
        The directory: `model.safetensors` and the config.json, with the new classes; and, where the
        original is on this machine, its tokenizer and image processor.

    Raises:
        UsageError: the run has no student, one without a public original, or one with options that
            the original's config.json cannot say.
    """
    saved = load_student(run)
    if not saved.origin:
        raise UsageError(
            "export writes a student under the names of the public checkpoint it started from; "
            f"{run} has a {saved.name} that started from none. Its weights are in "
            f"{run / 'student' / 'model.safetensors'}, named by their paths."
        )
    form = _form(saved)
    description = saved.origin["description"]
    described = form.exported(description, saved.options, saved.classes)
    _check_described(form, described, saved)
    tensors = public_tensors(saved.variables, form)
    original = _original(saved, form)
    directory = run / "export"
    directory.mkdir(exist_ok=True)
    if original is not None:
        published = _image_size(form.options(description))
        _copy_readers(original, directory, published, _image_size(saved.options))
        tensors |= _carried(original, form)
    # transformers refuses a file that does not say whose layout it is.
    content = safetensors.save(tensors, metadata={"format": "pt"})
    write_whole(directory / f"{form.weights}.safetensors", content)
    write_whole(directory / form.config, json.dumps(described, indent=2) + "\n")
    return directory


def _form(saved: SavedStudent) -> Format:
    name = str(saved.origin.get("format"))
    if name not in FORMATS or set(saved.origin) != ORIGIN:
        raise UsageError(
            f"a student's origin has {', '.join(sorted(ORIGIN))}, and a format of "
            f"{', '.join(FORMATS)}; got {sorted(saved.origin)} and {name!r}. student.json is of "
            "another version, or edited: train again."
        )
    return FORMATS[name]


def _check_described(form: Format, described: Mapping[str, Any], saved: SavedStudent) -> None:
    """What is written describes the model that was trained."""
    said = form.options(described)
    wrong = {
        key: (saved.options.get(key), value)
        for key, value in json.loads(json.dumps(said)).items()
        if key not in RUNTIME_OPTIONS and saved.options.get(key) != value
    }
    if wrong:
        pairs = "; ".join(
            f"{key} is {ours!r}, theirs {theirs!r}" for key, (ours, theirs) in wrong.items()
        )
        raise UsageError(
            f"an exported student is one that {form.name} can be; in this one {pairs}. Train with "
            "the published value of config.student.options, or use the weights in student/."
        )


def _original(saved: SavedStudent, form: Format) -> Checkpoint | None:
    """The public checkpoint, where it is on this machine."""
    origin = saved.origin
    key = "student.pretrained"
    source = Source(origin["source"], origin["revision"], key, weights=(form.weights,))
    return find_checkpoint(source)


def _carried(original: Checkpoint, form: Format) -> dict[str, np.ndarray]:
    """Tensors that torch's model has beside those of the student."""
    if not form.carried:
        return {}
    wanted = re.compile("|".join(form.carried))
    tensors = open_tensors(weight_files(original, form.weights))
    return {name: tensor.read() for name, tensor in tensors.items() if wanted.search(name)}


def _image_size(options: Mapping[str, Any]) -> int | None:
    tower = options.get("image")
    return (tower if isinstance(tower, Mapping) else options).get("image_size")


def _copy_readers(
    original: Checkpoint, directory: pathlib.Path, published: int | None, size: int | None
) -> None:
    """The files that turn an example into what the model reads; images in the student's size."""
    for path in tokenizer_files(original):
        shutil.copyfile(path, directory / path.name)
    for name in PROCESSORS:
        settings = read_json(original, name)
        if settings and published and size:
            settings = {key: _sized(key, x, size / published) for key, x in settings.items()}
        if settings:
            write_whole(directory / name, json.dumps(settings, indent=2) + "\n")


def _sized(key: str, value: Any, factor: float) -> Any:
    """One setting of an image processor, its lengths changed by a factor."""
    if isinstance(value, Mapping):
        inside = key in LENGTHS
        return {name: _sized(key if inside else name, item, factor) for name, item in value.items()}
    changes = key in LENGTHS and isinstance(value, int | float)
    return round(value * factor) if changes else value
