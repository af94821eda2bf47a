"""A trained student under the names of the public checkpoint it came from, for torch to load."""

import json
import pathlib
import shutil

from safetensors import numpy as safetensors

from aft_jax.errors import UsageError
from aft_jax.files import write_whole
from aft_jax.hub import Source, find_checkpoint, tokenizer_files
from aft_jax.students import SavedStudent, load_student
from aft_jax.students.pretrained.formats import FORMATS
from aft_jax.students.pretrained.public import public_tensors

PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def export(run: pathlib.Path) -> pathlib.Path:
    """The `export` verb: writes `run`/export for timm or transformers to load.

    Args:
        run: a finished run whose student started from public weights.

    Returns:
        The directory: `model.safetensors` and the config.json, with the new classes; and, where the
        original is on this machine, its tokenizer and image processor.

    Raises:
        UsageError: the run has no student, or one without a public original.
    """
    saved = load_student(run)
    if not saved.origin:
        raise UsageError(
            "export writes a student under the names of the public checkpoint it started from; "
            f"{run} has a {saved.name} that started from none. Its weights are in "
            f"{run / 'student' / 'model.safetensors'}, named by their paths."
        )
    form = FORMATS[saved.origin["format"]]
    directory = run / "export"
    directory.mkdir(exist_ok=True)
    _copy_readers(saved, directory)
    described = form.exported(saved.origin["description"], saved.options, saved.classes)
    tensors = public_tensors(saved.variables, form)
    # transformers refuses a file that does not say whose layout it is.
    content = safetensors.save(tensors, metadata={"format": "pt"})
    write_whole(directory / f"{form.weights}.safetensors", content)
    write_whole(directory / form.config, json.dumps(described, indent=2) + "\n")
    return directory


def _copy_readers(saved: SavedStudent, directory: pathlib.Path) -> None:
    """The files that turn an example into what the model reads."""
    origin = saved.origin
    source = Source(origin["source"], origin["revision"], "student.pretrained")
    checkpoint = find_checkpoint(source)
    if checkpoint is None:
        return
    processors = [checkpoint.directory / name for name in PROCESSORS]
    for path in (*tokenizer_files(checkpoint), *filter(pathlib.Path.is_file, processors)):
        shutil.copyfile(path, directory / path.name)
