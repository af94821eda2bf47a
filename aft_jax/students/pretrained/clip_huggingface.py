"""CLIP with both towers as transformers writes it: CLIPModel.

Keys that a config.json leaves out have the defaults of transformers' config classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aft_jax.students.layers.options import check_choice
from aft_jax.students.pretrained.format import Description, Format, labelled, model_type
from aft_jax.students.pretrained.names import EMBEDDING, LINEAR, NORM, Row
from aft_jax.students.pretrained.vit_huggingface import (
    ACTIVATIONS,
    CLIP,
    blocks,
    clip_vision,
    image_tower,
)

# A linear layer on the outer product of image and text, in row-major order.
_WEIGHT, _BIAS = LINEAR
_OF_PRODUCT = (
    _WEIGHT._replace(
        to_torch=lambda x: x.reshape(-1, x.shape[-1]).T,
        from_torch=lambda x, shape: x.T.reshape(shape),
    ),
    _BIAS,
)
CLASSIFIER = (Row("classifier", "head", _OF_PRODUCT),)
"""What no publisher of CLIP has: written beside its tensors as torch would hold it, [k, p p]."""


def _under(prefix: str, rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(row._replace(theirs=prefix + row.theirs) for row in rows)


ROWS = (
    *_under("vision_model.", image_tower("tower/image")),
    Row("visual_projection", "tower/image_projection", LINEAR),
    Row("text_model.embeddings.token_embedding", "tower/text/tokens", EMBEDDING),
    Row("text_model.embeddings.position_embedding", "tower/text/positions", EMBEDDING),
    *_under("text_model.", blocks("tower/text")),
    Row("text_model.final_layer_norm", "tower/text/norm", NORM),
    Row("text_projection", "tower/text_projection", LINEAR),
)

TEXT = {
    **{"vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048},
    **{"num_hidden_layers": 12, "num_attention_heads": 8, "max_position_embeddings": 77},
    **{"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
}
PROJECTION = 512


def _settings(description: Description, name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """One tower's part of a config.json; files of 2022 repeat it, and what they repeat is valid."""
    settings = dict(defaults) | dict(description.get(name) or {})
    repeated = description.get(f"{name}_dict")
    return settings if repeated is None else settings | dict(defaults) | dict(repeated)


def _text(description: Description) -> dict[str, Any]:
    settings = _settings(description, "text_config", TEXT)
    check_choice("hidden_act", settings["hidden_act"], ACTIVATIONS)
    return {
        "vocab_size": settings["vocab_size"],
        "positions": settings["max_position_embeddings"],
        "width": settings["hidden_size"],
        "depth": settings["num_hidden_layers"],
        "heads": settings["num_attention_heads"],
        "hidden": settings["intermediate_size"],
        "activation": ACTIVATIONS[settings["hidden_act"]],
        "epsilon": settings["layer_norm_eps"],
    }


def _options(description: Description) -> dict[str, Any]:
    vision = _settings(description, "vision_config", CLIP)
    return {
        "image": {"kind": "vit"} | clip_vision({"vision_config": vision}),
        "text": _text(description),
        "projection": description.get("projection_dim", PROJECTION),
    }


def _exported(
    description: Description, options: Mapping[str, Any], classes: Sequence[str]
) -> dict[str, Any]:
    changed = dict(description)
    for name in ("vision_config", "vision_config_dict"):
        if name == "vision_config" or changed.get(name):
            size = {"image_size": options["image"]["image_size"]}
            changed[name] = dict(changed.get(name) or {}) | size
    return labelled(changed | {"architectures": ["CLIPModel"]}, classes)


HUGGINGFACE_CLIP = Format(
    name="transformers' CLIP",
    student="clip",
    recognises=model_type("clip"),
    options=_options,
    rows=ROWS,
    head=CLASSIFIER,
    exported=_exported,
    ignored=("position_ids$", "^logit_scale$"),
    carried=("^logit_scale$",),
)
