"""A public checkpoint as a student: what it is, what it reads, and its weights when asked for."""

import difflib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from aft_jax.config import InputsConfig, StudentConfig
from aft_jax.errors import ConfigError, UsageError
from aft_jax.hub import (
    Checkpoint,
    Source,
    fetch_checkpoint,
    processor_settings,
    weight_files,
)
from aft_jax.lazy_tensors import open_tensors
from aft_jax.students.pretrained.format import Description, Format, timm_settings
from aft_jax.students.pretrained.formats import FORMATS, recognise
from aft_jax.students.pretrained.known import ALIASES, KNOWN
from aft_jax.students.pretrained.public import load_public
from aft_jax.types import PyTree

KEY = "student.pretrained"


class PublicStudent(NamedTuple):
    """A checkpoint that one of our architectures reads.

    Attributes:
        name: directory or hub id.
        checkpoint: its files.
        form: its format.
        description: its config.json.
        options: of the architecture, as published.
    """

    name: str
    checkpoint: Checkpoint
    form: Format
    description: Description
    options: dict[str, Any]

    @property
    def origin(self) -> dict[str, Any]:
        """What is kept beside a trained student, to write it under the public names again."""
        return {
            "source": self.name,
            "revision": self.checkpoint.revision,
            "format": self.form.name,
            "description": dict(self.description),
        }


def find_public(config: StudentConfig) -> PublicStudent:
    """The checkpoint that a config names; downloaded if need be, its weights not read yet.

    Args:
        config: with `pretrained` a directory or hub id.

    Returns:
        The checkpoint.

    Raises:
        ConfigError: what it was made with is more than our architecture has.
        UsageError: it is not to be had, damaged, of an unknown kind, or one of another
            architecture than `config.name`.
    """
    name = ALIASES.get(config.pretrained, config.pretrained)
    names = {form.weights: None for form in FORMATS.values() if form.student == config.name}
    if name.startswith("timm/") and len(names) > 1:
        del names["model"]  # of timm's own image tower
    source = Source(name, config.revision, KEY, weights=tuple(names) or ("model",))
    try:
        checkpoint = fetch_checkpoint(source)
    except UsageError as error:
        near = difflib.get_close_matches(name, KNOWN, n=3, cutoff=0.6)
        if not near or name in KNOWN:
            raise
        raise UsageError(f"{error} Near matches: {', '.join(near)}.") from error
    form, description = recognise(checkpoint, config.name)
    try:
        options = form.options(description)
    except (ValueError, LookupError, TypeError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"config.{KEY} describes a model that {form.student!r} can be; {form.config} of "
            f"{checkpoint.id}: {reason}. Use another checkpoint, or repair "
            "the file."
        ) from error
    return PublicStudent(name, checkpoint, form, description, options)


def load_weights(public: PublicStudent, variables: PyTree) -> PyTree:
    """A student's variables with the checkpoint's weights; the classifier stays as it is.

    Args:
        public: the checkpoint.
        variables: with random weights; or their shapes alone.

    Returns:
        The variables; those that the checkpoint has are NumPy arrays.

    Raises:
        UsageError: the weights are no safetensors, incomplete, or do not fit by name or shape.
    """
    tensors = open_tensors(weight_files(public.checkpoint, public.form.weights))
    return load_public(tensors, public.form, variables, public.checkpoint.id)


def check_pixels(public: PublicStudent, inputs: InputsConfig) -> None:
    """Weights that were trained on other numbers for the same pixels are of no use.

    Args:
        public: the checkpoint.
        inputs: what the student is to read.

    Raises:
        UsageError: mean or standard deviation differ from the published ones.
    """
    published = _published_pixels(public)
    pairs = {"mean": inputs.mean, "std": inputs.std} if "image" in inputs.kind else {}
    wrong = {
        key: ours
        for key, ours in pairs.items()
        if key in published and not _close(ours, published[key])
    }
    if wrong:
        found = "; ".join(
            f"config.inputs.{key} is {ours}, published with {tuple(published[key])}"
            for key, ours in wrong.items()
        )
        raise UsageError(
            f"a pre-trained student reads what {public.checkpoint.id} was trained on; {found}. "
            "Change config.inputs to match."
        )


def _published_pixels(public: PublicStudent) -> Mapping[str, Any]:
    description = public.description
    own = description.get("preprocess_cfg") or timm_settings(description)
    settings = processor_settings(public.checkpoint)
    found = {key: own.get(key, settings.get(f"image_{key}")) for key in ("mean", "std")}
    return {
        key: [value] * 3 if isinstance(value, int | float) else value
        for key, value in found.items()
        if value is not None
    }


def _close(ours: tuple[float, ...], published: Any) -> bool:
    return len(ours) == len(published) and all(
        math.isclose(a, b, abs_tol=2e-3) for a, b in zip(ours, published, strict=True)
    )
