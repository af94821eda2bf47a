"""CLIP with both towers under OpenAI's own names, as open_clip publishes it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aft_jax.students.pretrained.clip_huggingface import CLASSIFIER
from aft_jax.students.pretrained.format import Description, Format
from aft_jax.students.pretrained.names import (
    ARRAY,
    BATCH_NORM,
    CONVOLUTION,
    EMBEDDING,
    IN_PROJECTION,
    KEY,
    LINEAR,
    NORM,
    POINTWISE,
    QUERY,
    VALUE,
    Row,
    positions,
)


def _blocks(theirs: str, ours: str) -> tuple[Row, ...]:
    theirs, ours = f"{theirs}.resblocks.{{i}}", f"{ours}/blocks"
    return (
        Row(f"{theirs}.ln_1", f"{ours}/norm1", NORM),
        Row(f"{theirs}.attn", f"{ours}/attention/qkv", IN_PROJECTION),
        Row(f"{theirs}.attn.out_proj", f"{ours}/attention/out", LINEAR),
        Row(f"{theirs}.ln_2", f"{ours}/norm2", NORM),
        Row(f"{theirs}.mlp.c_fc", f"{ours}/mlp/fc1", LINEAR),
        Row(f"{theirs}.mlp.c_proj", f"{ours}/mlp/fc2", LINEAR),
    )


TEXT_ROWS = (
    Row("token_embedding", "tower/text/tokens", EMBEDDING),
    Row("positional_embedding", "tower/text/positions/embedding", ARRAY),
    *_blocks("transformer", "tower/text"),
    Row("ln_final", "tower/text/norm", NORM),
    Row("text_projection", "tower/text_projection/kernel", ARRAY),  # [in, out] there as well
)
VIT_ROWS = (
    Row("visual.class_embedding", "tower/image/class_token", ARRAY),
    Row("visual.positional_embedding", "tower/image/positions", positions()),
    Row("visual.conv1", "tower/image/patches", CONVOLUTION),
    Row("visual.ln_pre", "tower/image/pre_norm", NORM),
    *_blocks("visual.transformer", "tower/image"),
    Row("visual.ln_post", "tower/image/norm", NORM),
    Row("visual.proj", "tower/image_projection/kernel", ARRAY),
)
_BLOCK, _OUR_BLOCK = "visual.layer{s}.{i}", "tower/image/layer{s}_{i}"
RESNET_ROWS = (
    Row("visual.conv{n}", "tower/image/conv{n}", CONVOLUTION),
    Row("visual.bn{n}", "tower/image/norm{n}", BATCH_NORM),
    Row(f"{_BLOCK}.conv1", f"{_OUR_BLOCK}/conv1", POINTWISE),
    Row(f"{_BLOCK}.conv2", f"{_OUR_BLOCK}/conv2", CONVOLUTION),
    Row(f"{_BLOCK}.conv3", f"{_OUR_BLOCK}/conv3", POINTWISE),
    Row(f"{_BLOCK}.bn{{n}}", f"{_OUR_BLOCK}/norm{{n}}", BATCH_NORM),
    Row(f"{_BLOCK}.downsample.0", f"{_OUR_BLOCK}/shortcut", POINTWISE),
    Row(f"{_BLOCK}.downsample.1", f"{_OUR_BLOCK}/shortcut_norm", BATCH_NORM),
    Row("visual.attnpool.positional_embedding", "tower/image/pool/positions", ARRAY),
    Row("visual.attnpool.q_proj", "tower/image/pool/qkv", LINEAR, QUERY),
    Row("visual.attnpool.k_proj", "tower/image/pool/qkv", LINEAR, KEY),
    Row("visual.attnpool.v_proj", "tower/image/pool/qkv", LINEAR, VALUE),
    Row("visual.attnpool.c_proj", "tower/image/pool/out", LINEAR),
)

# What open_clip takes where a file says nothing.
IMAGE = {"image_size": 224, "head_width": 64, "mlp_ratio": 4, "patch_size": None}
TEXT = {"context_length": 77, "vocab_size": 49408, "mlp_ratio": 4}

KEYS = {
    "model_cfg": ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu"),
    "vision_cfg": (*IMAGE, "layers", "width"),
    "text_cfg": (*TEXT, "width", "heads", "layers"),
}
"""Parts of a description -> the keys that our towers have a meaning for."""


def _check_keys(name: str, settings: Collection[str]) -> None:
    unknown = sorted(set(settings) - set(KEYS[name]))
    if unknown:
        raise ValueError(
            f"{name} describes CLIP's own towers, with the keys {', '.join(KEYS[name])}; got "
            f"{', '.join(unknown)} as well"
        )


def _options(description: Description) -> dict[str, Any]:
    model = description["model_cfg"]
    vision, text = IMAGE | dict(model["vision_cfg"]), TEXT | dict(model["text_cfg"])
    for name, settings in {"model_cfg": model, "vision_cfg": vision, "text_cfg": text}.items():
        _check_keys(name, settings)
    resnet = not isinstance(vision["layers"], int)
    # Every published ResNet was trained with it; first revisions of their files do not say so.
    activation = "quick_gelu" if model.get("quick_gelu", resnet) else "gelu"
    return {
        "image": _resnet(vision) if resnet else _vit(vision, activation),
        "text": {
            "vocab_size": text["vocab_size"],
            "positions": text["context_length"],
            "width": text["width"],
            "depth": text["layers"],
            "heads": text["heads"],
            "hidden": int(text["width"] * text["mlp_ratio"]),
            "activation": activation,
            "epsilon": 1e-5,
        },
        "projection": model["embed_dim"],
    }


def _resnet(vision: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": "resnet",
        "image_size": vision["image_size"],
        "depths": list(vision["layers"]),
        "width": vision["width"],
        "heads": vision["width"] * 32 // vision["head_width"],
    }


def _vit(vision: Mapping[str, Any], activation: str) -> dict[str, Any]:
    return {
        "kind": "vit",
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "width": vision["width"],
        "depth": vision["layers"],
        "heads": vision["width"] // vision["head_width"],
        "hidden": int(vision["width"] * vision["mlp_ratio"]),
        "activation": activation,
        "epsilon": 1e-5,
        "pre_norm": True,
        "patch_bias": False,
    }


def _exported(
    description: Description, options: Mapping[str, Any], classes: Sequence[str]
) -> dict[str, Any]:
    model = dict(description["model_cfg"])
    size = {"image_size": options["image"]["image_size"]}
    model["vision_cfg"] = dict(model["vision_cfg"]) | size
    return dict(description) | {"model_cfg": model, "label_names": list(classes)}


OPENAI_CLIP = Format(
    tied=lambda options: options["image"]["kind"] == "resnet",
    name="OpenAI's CLIP",
    student="clip",
    recognises=lambda description: "model_cfg" in description,
    options=_options,
    rows=(*TEXT_ROWS, *VIT_ROWS, *RESNET_ROWS),
    head=CLASSIFIER,
    exported=_exported,
    ignored=("^logit_scale$", "^attn_mask$", "^(input_resolution|context_length|vocab_size)$"),
    antialias=True,
    config="open_clip_config.json",
    weights="open_clip_model",
)
