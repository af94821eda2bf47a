"""Vision transformers as transformers writes them: ViT, DINOv2, and the towers of CLIP and SigLIP.

Keys that a config.json leaves out have the defaults of transformers' config classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aft_jax.students.pretrained.format import (
    Description,
    Format,
    huggingface_export,
    labelled,
    model_type,
)
from aft_jax.students.pretrained.names import (
    ARRAY,
    CONVOLUTION,
    IN_PROJECTION,
    KEY,
    LINEAR,
    NORM,
    QUERY,
    VALUE,
    Row,
    array,
    positions,
)

EMBEDDINGS = (
    Row("embeddings.cls_token", "tower/class_token", array(1, 1)),
    Row("embeddings.register_tokens", "tower/registers", array(1)),
    Row("embeddings.position_embeddings", "tower/positions", positions(1)),
    Row("embeddings.patch_embeddings.projection", "tower/patches", CONVOLUTION),
    Row("layernorm", "tower/norm", NORM),
)
ATTENTION = (
    Row("encoder.layer.{i}.attention.attention.query", "tower/blocks/attention/qkv", LINEAR, QUERY),
    Row("encoder.layer.{i}.attention.attention.key", "tower/blocks/attention/qkv", LINEAR, KEY),
    Row("encoder.layer.{i}.attention.attention.value", "tower/blocks/attention/qkv", LINEAR, VALUE),
    Row("encoder.layer.{i}.attention.output.dense", "tower/blocks/attention/out", LINEAR),
)
VIT_ROWS = (
    *EMBEDDINGS,
    *ATTENTION,
    Row("encoder.layer.{i}.layernorm_before", "tower/blocks/norm1", NORM),
    Row("encoder.layer.{i}.layernorm_after", "tower/blocks/norm2", NORM),
    Row("encoder.layer.{i}.intermediate.dense", "tower/blocks/mlp/fc1", LINEAR),
    Row("encoder.layer.{i}.output.dense", "tower/blocks/mlp/fc2", LINEAR),
)
DINOV2_BLOCKS = (
    *EMBEDDINGS,
    *ATTENTION,
    Row("encoder.layer.{i}.norm1", "tower/blocks/norm1", NORM),
    Row("encoder.layer.{i}.layer_scale1.lambda1", "tower/blocks/scale1", ARRAY),
    Row("encoder.layer.{i}.norm2", "tower/blocks/norm2", NORM),
    Row("encoder.layer.{i}.layer_scale2.lambda1", "tower/blocks/scale2", ARRAY),
)
DINOV2_ROWS = (
    *DINOV2_BLOCKS,
    Row("encoder.layer.{i}.mlp.fc1", "tower/blocks/mlp/fc1", LINEAR),
    Row("encoder.layer.{i}.mlp.fc2", "tower/blocks/mlp/fc2", LINEAR),
)
DINOV2_GATED_ROWS = (
    *DINOV2_BLOCKS,
    Row("encoder.layer.{i}.mlp.weights_in", "tower/blocks/mlp/fc1", LINEAR),
    Row("encoder.layer.{i}.mlp.weights_out", "tower/blocks/mlp/fc2", LINEAR),
)


def blocks(ours: str) -> tuple[Row, ...]:
    """The blocks of either tower of CLIP and SigLIP.

    Args:
        ours: path of our tower.

    Returns:
        The rows.
    """
    theirs, stack = "encoder.layers.{i}", f"{ours}/blocks"
    return (
        Row(f"{theirs}.layer_norm1", f"{stack}/norm1", NORM),
        Row(f"{theirs}.self_attn.q_proj", f"{stack}/attention/qkv", LINEAR, QUERY),
        Row(f"{theirs}.self_attn.k_proj", f"{stack}/attention/qkv", LINEAR, KEY),
        Row(f"{theirs}.self_attn.v_proj", f"{stack}/attention/qkv", LINEAR, VALUE),
        Row(f"{theirs}.self_attn.out_proj", f"{stack}/attention/out", LINEAR),
        Row(f"{theirs}.layer_norm2", f"{stack}/norm2", NORM),
        Row(f"{theirs}.mlp.fc1", f"{stack}/mlp/fc1", LINEAR),
        Row(f"{theirs}.mlp.fc2", f"{stack}/mlp/fc2", LINEAR),
    )


def image_tower(ours: str) -> tuple[Row, ...]:
    """The image tower of CLIP and SigLIP.

    Args:
        ours: path of our tower.

    Returns:
        The rows.
    """
    return (
        Row("embeddings.class_embedding", f"{ours}/class_token", ARRAY),
        Row("embeddings.patch_embedding", f"{ours}/patches", CONVOLUTION),
        Row("embeddings.position_embedding", f"{ours}/positions", positions(suffix=".weight")),
        Row("pre_layrnorm", f"{ours}/pre_norm", NORM),
        *blocks(ours),
        Row("post_layernorm", f"{ours}/norm", NORM),
        Row("head.probe", f"{ours}/pool/probe", array(1, 1)),
        Row("head.attention", f"{ours}/pool/qkv", IN_PROJECTION),
        Row("head.attention.out_proj", f"{ours}/pool/out", LINEAR),
        Row("head.layernorm", f"{ours}/pool/norm", NORM),
        Row("head.mlp.fc1", f"{ours}/pool/mlp/fc1", LINEAR),
        Row("head.mlp.fc2", f"{ours}/pool/mlp/fc2", LINEAR),
    )


ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu"}
"""transformers' names of the activations that our students have -> ours."""

_BASE = {
    **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12},
    **{"num_attention_heads": 12, "image_size": 224},
}
VIT = _BASE | {"patch_size": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
DINOV2 = _BASE | {
    **{"patch_size": 14, "hidden_act": "gelu", "layer_norm_eps": 1e-6},
    **{"mlp_ratio": 4, "use_swiglu_ffn": False},
}
CLIP = _BASE | {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
SIGLIP = _BASE | {"patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}


def tower_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The options that all of these families share.

    Args:
        settings: a config.json over the defaults of its family.

    Returns:
        Arguments of `vision_tower`.

    Raises:
        ValueError: the activation is one that our students lack.
    """
    if settings["hidden_act"] not in ACTIVATIONS:
        raise ValueError(
            f"hidden_act is one of {', '.join(ACTIVATIONS)}; got {settings['hidden_act']!r}"
        )
    return {
        "image_size": settings["image_size"],
        "patch_size": settings["patch_size"],
        "width": settings["hidden_size"],
        "depth": settings["num_hidden_layers"],
        "heads": settings["num_attention_heads"],
        "hidden": settings["intermediate_size"],
        "activation": ACTIVATIONS[settings["hidden_act"]],
        "epsilon": settings["layer_norm_eps"],
    }


def _vit(description: Description) -> dict[str, Any]:
    return tower_options(VIT | dict(description))


def _dinov2(description: Description) -> dict[str, Any]:
    settings = DINOV2 | dict(description)
    options = tower_options(settings) | {"layer_scale": True}
    inner = int(settings["hidden_size"] * settings["mlp_ratio"])
    if settings["use_swiglu_ffn"]:
        inner = (int(inner * 2 / 3) + 7) // 8 * 8
        options["activation"] = "swiglu"
    registers = 0
    if settings["model_type"] == "dinov2_with_registers":
        registers = settings.get("num_register_tokens", 4)
    return options | {
        "hidden": inner,
        "registers": registers,
        "pooling": "cls_mean",  # what its published classifiers read
    }


def clip_vision(description: Description) -> dict[str, Any]:
    """Options of CLIP's image tower, from its own config.json or that of both towers."""
    options = tower_options(CLIP | dict(description.get("vision_config", description)))
    return options | {"pre_norm": True, "patch_bias": False}


def _siglip_vision(description: Description) -> dict[str, Any]:
    options = tower_options(SIGLIP | dict(description.get("vision_config", description)))
    return options | {"class_token": False, "pooling": "map"}


def _vit_format(
    name: str,
    recognises: Callable[[Description], bool],
    options: Callable[[Description], dict[str, Any]],
    rows: Sequence[Row],
    architecture: str,
    **keys: Any,
) -> Format:
    return Format(
        name=name,
        student="vit",
        recognises=recognises,
        options=options,
        rows=rows,
        head=(Row("classifier", "head", LINEAR),),
        **{"exported": huggingface_export(architecture, image_size="image_size"), **keys},
    )


def _image_tower_format(
    name: str,
    types: Sequence[str],
    options: Callable[[Description], dict[str, Any]],
    **keys: Any,
) -> Format:
    """The image tower alone, of a checkpoint of it or of both."""

    def exported(
        description: Description, ours: Mapping[str, Any], classes: Sequence[str]
    ) -> dict[str, Any]:
        settings = dict(description.get("vision_config") or description)
        settings |= {"model_type": types[-1], "image_size": ours["image_size"]}
        return labelled(settings | {"architectures": [keys["architecture"]]}, classes)

    return _vit_format(
        name,
        model_type(*types),
        options,
        image_tower("tower"),
        exported=exported,
        prefix="vision_model.",
        ignored=("position_ids$", "^text_", "^visual_projection\\.", "^logit_(scale|bias)$"),
        **keys,
    )


def _dinov2_format(registers: bool, gated: bool) -> Format:
    """DINOv2 with or without register tokens, with plain or (the giant one) gated MLPs."""
    kind = "dinov2_with_registers" if registers else "dinov2"

    def recognises(description: Description) -> bool:
        same = description.get("use_swiglu_ffn", DINOV2["use_swiglu_ffn"]) == gated
        return description.get("model_type") == kind and same

    words = ["DINOv2", "with registers" * registers, "with gated MLPs" * gated]
    return _vit_format(
        "transformers' " + " ".join(filter(None, words)),
        recognises,
        _dinov2,
        DINOV2_GATED_ROWS if gated else DINOV2_ROWS,
        f"Dinov2{'WithRegisters' * registers}ForImageClassification",
        prefix=f"{kind}.",
        ignored=("mask_token$",),
        carried=("mask_token$",),
        antialias=registers,
    )


FORMATS = (
    _vit_format(
        "transformers' ViT",
        model_type("vit"),
        _vit,
        VIT_ROWS,
        "ViTForImageClassification",
        prefix="vit.",
        ignored=("^pooler\\.",),
    ),
    *(_dinov2_format(registers, gated) for registers in (False, True) for gated in (False, True)),
    _image_tower_format(
        "transformers' CLIP, image tower",
        ("clip", "clip_vision_model"),
        clip_vision,
        architecture="CLIPVisionModel",
    ),
    _image_tower_format(
        "transformers' SigLIP, image tower",
        ("siglip", "siglip_vision_model"),
        _siglip_vision,
        architecture="SiglipVisionModel",
    ),
)
