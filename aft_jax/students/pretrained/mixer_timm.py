"""MLP-Mixers as timm publishes them."""

from collections.abc import Mapping
from typing import Any

from aft_jax.students.pretrained.format import (
    Description,
    Format,
    timm_arguments,
    timm_export,
    timm_settings,
)
from aft_jax.students.pretrained.names import CONVOLUTION, LINEAR, NORM, Row

ROWS = (
    Row("stem.proj", "tower/patches", CONVOLUTION),
    Row("blocks.{i}.norm1", "tower/blocks/norm1", NORM),
    Row("blocks.{i}.mlp_tokens.fc1", "tower/blocks/tokens/fc1", LINEAR),
    Row("blocks.{i}.mlp_tokens.fc2", "tower/blocks/tokens/fc2", LINEAR),
    Row("blocks.{i}.norm2", "tower/blocks/norm2", NORM),
    Row("blocks.{i}.mlp_channels.fc1", "tower/blocks/channels/fc1", LINEAR),
    Row("blocks.{i}.mlp_channels.fc2", "tower/blocks/channels/fc2", LINEAR),
    Row("norm", "tower/norm", NORM),
)

# In timm's words, as its models are built.
MIXERS: Mapping[str, Mapping[str, Any]] = {
    "mixer_s32_224": {"patch_size": 32, "num_blocks": 8, "embed_dim": 512},
    "mixer_s16_224": {"patch_size": 16, "num_blocks": 8, "embed_dim": 512},
    "mixer_b32_224": {"patch_size": 32, "num_blocks": 12, "embed_dim": 768},
    "mixer_b16_224": {"patch_size": 16, "num_blocks": 12, "embed_dim": 768},
    "mixer_l32_224": {"patch_size": 32, "num_blocks": 24, "embed_dim": 1024},
    "mixer_l16_224": {"patch_size": 16, "num_blocks": 24, "embed_dim": 1024},
}

KNOWN_ARGUMENTS = (
    *("img_size", "patch_size", "num_blocks", "embed_dim", "mlp_ratio", "stem_norm"),
    "global_pool",
)


def _recognises(description: Description) -> bool:
    return description.get("architecture") in MIXERS


def _options(description: Description) -> dict[str, Any]:
    published = timm_settings(description)
    arguments: dict[str, Any] = {"img_size": published.get("input_size", (3, 224, 224))[-1]}
    arguments |= MIXERS[description["architecture"]]
    arguments |= timm_arguments(description, KNOWN_ARGUMENTS)
    if arguments.get("stem_norm"):
        raise ValueError("stem_norm is False: these mixers norm no patches; got True")
    size, ratios = arguments["img_size"], arguments.get("mlp_ratio", (0.5, 4.0))
    width = arguments["embed_dim"]
    tokens, channels = (ratios, ratios) if isinstance(ratios, int | float) else ratios
    return {
        "image_size": size if isinstance(size, int) else size[0],
        "patch_size": arguments["patch_size"],
        "width": width,
        "depth": arguments["num_blocks"],
        "token_hidden": int(width * tokens),
        "channel_hidden": int(width * channels),
    }


TIMM_MIXER = Format(
    name="timm's MLP-Mixers",
    student="mixer",
    recognises=_recognises,
    options=_options,
    rows=ROWS,
    head=(Row("head", "head", LINEAR),),
    exported=timm_export,
    tied=lambda options: True,
)
