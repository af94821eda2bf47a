"""Any vision, text or image-and-text model that transformers loads in torch, as teacher."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aft_jax.config import TeacherConfig
from aft_jax.data import Example
from aft_jax.errors import ConfigError, UsageError
from aft_jax.hub import (
    Checkpoint,
    fetch_checkpoint,
    files_digest,
    find_checkpoint,
    processor_settings,
    read_description,
    tokenizer_files,
    weights_digest,
)
from aft_jax.teachers.huggingface_families import (
    architecture_of,
    choose_pooling,
    is_encoder_alone,
)
from aft_jax.teachers.huggingface_forward import Plan, check_pooling, features_of
from aft_jax.teachers.huggingface_inputs import (
    image_reader,
    load_tokenizer,
    take_part,
    text_reader,
    token_limit,
)
from aft_jax.teachers.huggingface_model import Reading, load_model
from aft_jax.teachers.huggingface_source import SOURCE_KEY, source_of
from aft_jax.teachers.teacher import Teacher, TeacherIdentity
from aft_jax.teachers.torch_replicas import replicate, run_split


def huggingface_identity(config: TeacherConfig) -> TeacherIdentity | None:
    """What that teacher's features depend on, from its files alone; loads no model.

    Args:
        config: as for `huggingface_teacher`.

    Returns:
        The identity, or None where the checkpoint is not on this machine.

    Raises:
        ConfigError: the model has no such pooling, tower or options.
        UsageError: the checkpoint is damaged or incomplete.
    """
    checkpoint = find_checkpoint(source_of(config))
    return None if checkpoint is None else _identity(config, _read(config, checkpoint))


def huggingface_teacher(config: TeacherConfig) -> Teacher:
    """A model from the Hugging Face hub or a directory, in torch, on all GPUs of this machine.

    Args:
        config: `source` is a hub id or a directory that `save_pretrained` wrote. Features are
            named "image" and "text" for a model with two towers, else "pooled".
            `options={"truncation_side": "right"}` keeps the beginning of a text that is too long;
            "left", the default, keeps its end, where the templates ask their question.

    Returns:
        The teacher; it computes in `config.dtype`, its features are float32.

    Raises:
        ConfigError: a package is missing, or the model has no such pooling, tower or options.
        UsageError: the checkpoint is not to be had, damaged or incomplete.
    """
    try:
        import torch  # noqa: F401 (is it there?)
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a huggingface teacher needs {error.name}: pip install 'aft_jax[teachers]'."
        ) from error
    reading = _read(config, fetch_checkpoint(source_of(config)))
    identity = _identity(config, reading)
    model = load_model(config, reading)
    check_pooling(model, reading.plan)
    prepare = _preparation(config, reading, model)
    replicas = replicate(model)

    def features(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        found = run_split(replicas, functools.partial(features_of, plan=reading.plan), inputs)
        return found if reading.plan.dual else {"pooled": next(iter(found.values()))}

    parameters = sum(parameter.numel() for parameter in replicas[0].parameters())
    return Teacher(identity, prepare, features, parameters)


def _read(config: TeacherConfig, checkpoint: Checkpoint) -> Reading:
    description = read_description(checkpoint, SOURCE_KEY)
    settings = {"image": processor_settings(checkpoint), "text": tokenizer_files(checkpoint)}
    dual = "vision_config" in description and "text_config" in description
    parts = ("image", "text") if dual else tuple(part for part in settings if settings[part])
    architecture = architecture_of(description, parts)
    if not architecture.reads:
        raise UsageError(
            "a checkpoint brings the preprocessing of its model; "
            f"{checkpoint.directory} has neither preprocessor_config.json nor tokenizer.json. "
            "Save its image processor or tokenizer there with save_pretrained."
        )
    towers = ("", "both", *architecture.reads) if dual else ("", *architecture.reads)
    if config.tower not in towers:
        raise ConfigError(
            f"config.teachers.*.tower of {config.source} is one of "
            f"{', '.join(map(repr, towers))}; got {config.tower!r}."
        )
    if config.options not in ({}, *({"truncation_side": side} for side in ("left", "right"))):
        raise ConfigError(
            "config.teachers.*.options of a huggingface teacher has truncation_side, 'left' or "
            f"'right'; got {config.options!r}."
        )
    reads = (config.tower,) if config.tower in ("image", "text") else architecture.reads
    architecture = architecture._replace(reads=reads)
    pooling = choose_pooling(architecture, config.pooling, config.layers)
    both = description.get("is_encoder_decoder") or is_encoder_alone(description)
    plan = Plan(pooling, config.layers, dual, bool(both))
    return Reading(checkpoint, architecture, plan)


def _truncation(config: TeacherConfig) -> str:
    return ({"truncation_side": "left"} | config.options)["truncation_side"]


def _identity(config: TeacherConfig, reading: Reading) -> TeacherIdentity:
    checkpoint = reading.checkpoint
    preprocessing: dict[str, Any] = {}
    if "image" in reading.architecture.reads:
        settings = processor_settings(checkpoint)
        preprocessing["image"] = {
            key: settings[key] for key in settings if key != "processor_class"
        }
    if "text" in reading.architecture.reads:
        preprocessing["text"] = {
            "tokenizer": files_digest(tokenizer_files(checkpoint)),
            "max_length": config.max_length or "the model's",
            "truncation_side": _truncation(config),
        }
    layers = f" of layers {', '.join(map(str, config.layers))}" if config.layers else ""
    tower = f" of the {config.tower} tower" if config.tower in ("image", "text") else ""
    dtype = "" if config.dtype == "float32" else f" in {config.dtype}"
    return TeacherIdentity(
        id=f"huggingface/{checkpoint.id}",
        revision=checkpoint.revision,
        weights_sha256=weights_digest(checkpoint, config.trust_remote_code),
        preprocessing=json.dumps(preprocessing, sort_keys=True),
        pooling=f"{reading.plan.pooling}{layers}{tower}{dtype}",
    )


def _preparation(
    config: TeacherConfig, reading: Reading, model: Any
) -> Callable[[Sequence[Example]], dict[str, np.ndarray]]:
    """Examples -> arrays, named as the model's arguments are."""
    readers: dict[str, Callable[[Sequence[Any]], dict[str, np.ndarray]]] = {}
    trust = config.trust_remote_code
    if "image" in reading.architecture.reads:
        readers["image"] = image_reader(reading.checkpoint, trust)
    if "text" in reading.architecture.reads:
        tokenizer = load_tokenizer(reading.checkpoint, trust)
        tokenizer.truncation_side = _truncation(config)
        length = token_limit(tokenizer, model.config, config)
        tower = model.text_model if reading.plan.dual else model
        readers["text"] = text_reader(tokenizer, tower, length, reading.architecture.full_length)

    def prepare(examples: Sequence[Example]) -> dict[str, np.ndarray]:
        parts = list(readers)
        if reading.plan.dual and not config.tower:
            parts = [part for part in readers if part in examples[0]] or parts
        inputs: dict[str, np.ndarray] = {}
        for part in parts:
            inputs |= readers[part](take_part(examples, part))
        return inputs

    return prepare
