"""Vision transformers as timm publishes them: augreg, DINOv2, CLIP and SigLIP image towers."""

import re
from collections.abc import Mapping
from typing import Any

from aft_jax.students.layers.options import check_choice
from aft_jax.students.pretrained.format import (
    TIMM_POOLINGS,
    Description,
    Format,
    timm_arguments,
    timm_export,
    timm_settings,
)
from aft_jax.students.pretrained.names import (
    ARRAY,
    CONVOLUTION,
    KEY_VALUE,
    LINEAR,
    NORM,
    QUERY,
    Row,
    array,
    positions,
)

ROWS = (
    Row("cls_token", "tower/class_token", array(1, 1)),
    Row("reg_token", "tower/registers", array(1)),
    Row("pos_embed", "tower/positions", positions(1)),
    Row("patch_embed.proj", "tower/patches", CONVOLUTION),
    Row("norm_pre", "tower/pre_norm", NORM),
    Row("blocks.{i}.norm1", "tower/blocks/norm1", NORM),
    Row("blocks.{i}.attn.qkv", "tower/blocks/attention/qkv", LINEAR),
    Row("blocks.{i}.attn.proj", "tower/blocks/attention/out", LINEAR),
    Row("blocks.{i}.ls1.gamma", "tower/blocks/scale1", ARRAY),
    Row("blocks.{i}.norm2", "tower/blocks/norm2", NORM),
    Row("blocks.{i}.mlp.fc1", "tower/blocks/mlp/fc1", LINEAR),
    Row("blocks.{i}.mlp.fc2", "tower/blocks/mlp/fc2", LINEAR),
    Row("blocks.{i}.ls2.gamma", "tower/blocks/scale2", ARRAY),
    Row("norm", "tower/norm", NORM),
    Row("fc_norm", "tower/pooled_norm", NORM),
    Row("attn_pool.latent", "tower/pool/probe", array(1, 1)),
    Row("attn_pool.q", "tower/pool/qkv", LINEAR, QUERY),
    Row("attn_pool.kv", "tower/pool/qkv", LINEAR, KEY_VALUE),
    Row("attn_pool.proj", "tower/pool/out", LINEAR),
    Row("attn_pool.norm", "tower/pool/norm", NORM),
    Row("attn_pool.mlp.fc1", "tower/pool/mlp/fc1", LINEAR),
    Row("attn_pool.mlp.fc2", "tower/pool/mlp/fc2", LINEAR),
)

# In timm's words, as its models are built: ratios of widths, not widths.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"embed_dim": 192, "depth": 12, "num_heads": 3},
    "small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "medium": {"embed_dim": 512, "depth": 12, "num_heads": 8},
    "base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "large": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
    "huge": {"embed_dim": 1280, "depth": 32, "num_heads": 16},
    "giant": {"embed_dim": 1408, "depth": 40, "num_heads": 16, "mlp_ratio": 48 / 11},
    "so400m": {"embed_dim": 1152, "depth": 27, "num_heads": 16, "mlp_ratio": 4304 / 1152},
}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "": {},
    "clip": {"pre_norm": True, "eps": 1e-5},
    "clip_quickgelu": {"pre_norm": True, "eps": 1e-5, "act_layer": "quick_gelu"},
    "siglip": {"class_token": False, "global_pool": "map"},
    "dinov2": {"init_values": 1e-5},
}
DINOV2_GIANT = {
    **{"embed_dim": 1536, "depth": 40, "num_heads": 24},
    **{"mlp_ratio": 16 / 3, "mlp_layer": "swiglu"},
}
"""Its gated MLP: of 8,192 numbers one half gates the other."""

GELU_TANH = (
    "vit_so400m_patch16_siglip",
    "vit_large_patch16_siglip_512",
    "vit_base_patch32_siglip_256",
)
"""Of SigLIP's second generation, whose other sizes timm builds with plain GELU."""

KNOWN_ARGUMENTS = (
    *("img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "mlp_layer"),
    *("act_layer", "eps", "class_token", "no_embed_class", "reg_tokens", "init_values"),
    *("pre_norm", "global_pool", "dynamic_img_size", "strict_img_size"),
)
"""Arguments that `translated` reads, and two that change no feature."""

_NAME = re.compile(
    r"vit_(?P<size>[a-z0-9]+)_patch(?P<patch>\d+)(_reg(?P<registers>\d+))?"
    r"(_(?P<kind>clip_quickgelu|clip|siglip|dinov2))?(_\d+)?"
)


def _recognises(description: Description) -> bool:
    match = _NAME.fullmatch(str(description.get("architecture")))
    return match is not None and match["size"] in SIZES


def _options(description: Description) -> dict[str, Any]:
    match = _NAME.fullmatch(description["architecture"])
    if match is None:
        raise ValueError(f"{description['architecture']!r} is no vision transformer of timm")
    published = timm_settings(description)
    giant = match["size"] == "giant" and match["kind"] == "dinov2"
    arguments: dict[str, Any] = {"patch_size": int(match["patch"])}
    arguments |= {"img_size": published.get("input_size", (3, 224, 224))[-1]}
    arguments |= DINOV2_GIANT if giant else SIZES[match["size"]]
    arguments |= KINDS[match["kind"] or ""]
    if description["architecture"].startswith(GELU_TANH):
        arguments["act_layer"] = "gelu_tanh"
    if match["registers"]:
        arguments |= {"reg_tokens": int(match["registers"]), "no_embed_class": True}
    return translated(arguments | timm_arguments(description, KNOWN_ARGUMENTS))


def translated(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a vision transformer from timm's arguments.

    Args:
        arguments: of `timm.models.vision_transformer.VisionTransformer`, and "eps" of its norms.

    Returns:
        Arguments of `vision_tower`.
    """
    width, gated = arguments["embed_dim"], arguments.get("mlp_layer") == "swiglu"
    inner = int(width * arguments.get("mlp_ratio", 4) + 1e-6)
    poolings = {theirs: ours for ours, theirs in TIMM_POOLINGS.items()}
    check_choice("global_pool", arguments.get("global_pool", "token"), poolings)
    size = arguments["img_size"]
    return {
        "image_size": size if isinstance(size, int) else size[0],
        "patch_size": arguments["patch_size"],
        "width": width,
        "depth": arguments["depth"],
        "heads": arguments["num_heads"],
        "hidden": inner // 2 if gated else inner,
        "activation": "swiglu" if gated else arguments.get("act_layer", "gelu"),
        "epsilon": arguments.get("eps", 1e-6),
        "class_token": arguments.get("class_token", True),
        "class_position": not arguments.get("no_embed_class", False),
        "registers": arguments.get("reg_tokens", 0),
        "layer_scale": bool(arguments.get("init_values")),
        "pre_norm": arguments.get("pre_norm", False),
        "patch_bias": not arguments.get("pre_norm", False),
        "pooling": poolings[arguments.get("global_pool", "token")],
    }


TIMM_VIT = Format(
    name="timm's vision transformers",
    student="vit",
    recognises=_recognises,
    options=_options,
    rows=ROWS,
    head=(Row("head", "head", LINEAR),),
    exported=timm_export,
    renamed={"norm.weight": "fc_norm.weight", "norm.bias": "fc_norm.bias"},  # for other poolings
    antialias=True,
)
