"""Where a student's weights come from: random numbers, one of our own runs, or public weights."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aft_jax.config import InputsConfig, StudentConfig
from aft_jax.students.pretrained.checkpoint import check_pixels, find_public, load_weights
from aft_jax.students.weights import check_architecture, load_student, with_pretrained_body
from aft_jax.types import PyTree


class Start(NamedTuple):
    """A student before its first step.

    Attributes:
        options: of the architecture, whole: those of the weights, and the config's over them.
        fill: shapes of the student's variables -> the same tree, with an array where the weights
            are known.
        origin: the public checkpoint behind the weights, see `PublicStudent.origin`.
        tokenizer: what the weights were trained to read text with; empty where nothing says so.
    """

    options: dict[str, Any]
    fill: Callable[[PyTree], PyTree]
    origin: Mapping[str, Any]
    tokenizer: str = ""


def find_start(config: StudentConfig, inputs: InputsConfig) -> Start:
    """Finds the weights that a config names, and what they say about the student.

    Args:
        config: the student.
        inputs: what it reads.

    Returns:
        The start; public weights are read when they are filled in.

    Raises:
        ConfigError: the weights belong to a model that our architecture cannot be.
        UsageError: they are not to be had, damaged, or for another student or other inputs.
    """
    if config.init_from:
        return _own(config, inputs)
    if config.pretrained:
        return _public(config, inputs)
    return Start(config.options, lambda variables: variables, {})


def _own(config: StudentConfig, inputs: InputsConfig) -> Start:
    saved = load_student(pathlib.Path(config.init_from))
    options = saved.options | config.options
    check_architecture(saved, config.name, options)

    def fill(variables: PyTree) -> PyTree:
        return with_pretrained_body(variables, saved, config.name, options, inputs)

    return Start(options, fill, saved.origin)


def _public(config: StudentConfig, inputs: InputsConfig) -> Start:
    public = find_public(config)
    check_pixels(public, inputs)
    options = public.options
    if not public.form.tied(options):
        options = _sized(options, inputs.image_size)
    return Start(
        options | config.options,
        lambda variables: load_weights(public, variables),
        public.origin,
        tokenizer=config.pretrained,
    )


def _sized(options: dict[str, Any], image_size: int) -> dict[str, Any]:
    """The options of a model whose positions, or those of its image tower, follow the images."""
    if "image_size" in options:
        return options | {"image_size": image_size}
    tower = options.get("image")
    return options | {"image": _sized(tower, image_size)} if isinstance(tower, dict) else options
