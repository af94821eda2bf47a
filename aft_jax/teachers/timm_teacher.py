"""Any image model of timm, with its own data config, in torch."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aft_jax.config import TeacherConfig
from aft_jax.data import Example
from aft_jax.errors import ConfigError, UsageError
from aft_jax.hub import (
    Checkpoint,
    fetch_checkpoint,
    find_checkpoint,
    read_description,
    weights_digest,
)
from aft_jax.teachers.huggingface_inputs import take_part
from aft_jax.teachers.huggingface_source import SOURCE_KEY, source_of
from aft_jax.teachers.pooling import pool
from aft_jax.teachers.teacher import Teacher, TeacherIdentity
from aft_jax.teachers.torch_replicas import replicate, run_split
from aft_jax.teachers.unused import choose, refuse_unused

POOLINGS = ("model", "mean", "cls")
"""The default is what the official code takes: all of the model but its classifier."""

_USED = ("revision", "pooling", "dtype")
_PREPROCESSING = (
    *("input_size", "test_input_size", "fixed_input_size", "interpolation"),
    *("crop_pct", "crop_mode", "test_crop_pct", "mean", "std"),
)


def timm_identity(config: TeacherConfig) -> TeacherIdentity | None:
    """What that teacher's features depend on, from its files alone; loads no model.

    Args:
        config: as for `timm_teacher`.

    Returns:
        The identity, or None where the checkpoint is not on this machine.

    Raises:
        ConfigError: there is no such pooling, or a key is set that this family does not read.
        UsageError: the checkpoint is damaged or incomplete.
    """
    refuse_unused(config, _USED)
    choose(config, POOLINGS)
    try:
        _import_timm()
    except ConfigError:
        return None  # only timm knows where the weights behind its names are
    checkpoint = find_checkpoint(source_of(_located(config)))
    return None if checkpoint is None else _identity(config, checkpoint)


def timm_teacher(config: TeacherConfig) -> Teacher:
    """A timm model, on all GPUs of this machine.

    Args:
        config: `source` is a model name ("vit_base_patch16_224.augreg_in1k"), "hf-hub:ORG/NAME",
            or "local-dir:PATH" or a path, with the config.json and model.safetensors that timm
            writes for the hub. `pooling` is "model", what the model gives its classifier, "mean"
            over patches, or "cls".

    Returns:
        The teacher; it computes in `config.dtype`, its features are float32.

    Raises:
        ConfigError: a package is missing, there is no such name or pooling, or a key is set that
            this family does not read.
        UsageError: the checkpoint is not to be had, damaged or incomplete.
    """
    refuse_unused(config, _USED)
    pooling = choose(config, POOLINGS)
    timm = _import_timm()
    checkpoint = fetch_checkpoint(source_of(_located(config)))
    identity = _identity(config, checkpoint)
    model = _load(timm, checkpoint, config.dtype)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    if pooling == "cls" and not getattr(model, "num_prefix_tokens", 0):
        raise ConfigError(
            f"config.teachers.*.pooling of {config.source}, which has no class token, is one of "
            "model, mean; got 'cls'."
        )
    replicas = replicate(model)

    def features(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return run_split(replicas, functools.partial(_features_of, pooling=pooling), inputs)

    parameters = sum(parameter.numel() for parameter in replicas[0].parameters())
    return Teacher(identity, _preparation(transform), features, parameters)


def _import_timm() -> Any:
    try:
        import timm
        import timm.data
        import torchvision  # noqa: F401 (timm's transforms are made of it)
    # A torchvision of another build than torch's fails with errors of any kind.
    except Exception as error:
        raise ConfigError(
            "a timm teacher needs timm, and the torchvision that belongs to this torch; importing "
            f"them failed: {error}. Run pip install 'aft_jax[teachers]'."
        ) from error
    return timm


def _located(config: TeacherConfig) -> TeacherConfig:
    """The config with the directory or hub id behind a timm name as source."""
    source = config.source.removeprefix("local-dir:").removeprefix("hf-hub:")
    if source == config.source and not pathlib.Path(source).expanduser().is_dir():
        try:
            listed = _import_timm().get_pretrained_cfg(source)
        except RuntimeError as error:
            raise _unlisted(config, f" ({error})") from error
        if listed is None or not listed.hf_hub_id:
            raise _unlisted(config, "")
        source = listed.hf_hub_id
    return dataclasses.replace(config, source=source)


def _unlisted(config: TeacherConfig, why: str) -> ConfigError:
    return ConfigError(
        "config.teachers.*.source of a timm teacher is a name that timm.list_pretrained() lists, "
        f"hf-hub:ORG/NAME or local-dir:PATH; got {config.source!r}{why}."
    )


def _identity(config: TeacherConfig, checkpoint: Checkpoint) -> TeacherIdentity:
    description = read_description(checkpoint, SOURCE_KEY)
    if "architecture" not in description:
        raise UsageError(
            "the config.json of a timm checkpoint names its architecture; "
            f"{checkpoint.directory} has none. For a checkpoint of transformers set "
            "config.teachers.*.kind='huggingface'."
        )
    settings = description.get("pretrained_cfg", description)
    dtype = "" if config.dtype == "float32" else f" in {config.dtype}"
    return TeacherIdentity(
        id=f"timm/{checkpoint.id}",
        revision=checkpoint.revision,
        weights_sha256=weights_digest(checkpoint, code=False),
        preprocessing=json.dumps(
            {key: settings[key] for key in _PREPROCESSING if key in settings}, sort_keys=True
        ),
        pooling=f"{choose(config, POOLINGS)}{dtype}",
    )


def _load(timm: Any, checkpoint: Checkpoint, dtype: str) -> Any:
    import torch
    from safetensors import SafetensorError

    try:
        model = timm.create_model(f"local-dir:{checkpoint.directory}", pretrained=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise UsageError(
            f"timm cannot load the checkpoint in {checkpoint.directory}: {error}. Download or save "
            "it again; an architecture that this timm does not know needs a newer one."
        ) from error
    return model.to(getattr(torch, dtype))


def _preparation(transform: Any) -> Callable[[Sequence[Example]], dict[str, np.ndarray]]:
    from PIL import Image

    def prepare(examples: Sequence[Example]) -> dict[str, np.ndarray]:
        images = take_part(examples, "image")
        return {"pixels": np.stack([transform(Image.fromarray(image)) for image in images])}

    return prepare


def _features_of(model: Any, inputs: Mapping[str, Any], pooling: str) -> dict[str, Any]:
    pixels = inputs["pixels"]
    states = model.forward_features(pixels.to(next(model.parameters()).dtype))
    if pooling == "model":
        return {"pooled": model.forward_head(states, pre_logits=True).flatten(1)}
    if states.ndim == 4 and getattr(model, "output_fmt", "NCHW") == "NHWC":
        states = states.permute(0, 3, 1, 2)
    return {"pooled": pool(states, pooling, prefix=getattr(model, "num_prefix_tokens", 0))}
