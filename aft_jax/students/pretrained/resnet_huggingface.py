"""ResNets as transformers writes them.

Keys that a config.json leaves out have the defaults of transformers' config class.
"""

from typing import Any

from aft_jax.students.pretrained.format import (
    Description,
    Format,
    huggingface_export,
    model_type,
)
from aft_jax.students.pretrained.names import BATCH_NORM, CONVOLUTION, LINEAR, POINTWISE, Row
from aft_jax.students.pretrained.widths import first_width

THEIRS, OURS = "encoder.stages.{s}.layers.{i}", "tower/stage{s}_{i}"
ROWS = (
    Row("embedder.embedder.convolution", "tower/stem", CONVOLUTION),
    Row("embedder.embedder.normalization", "tower/stem_norm", BATCH_NORM),
    # One of each pair has a counterpart: the first in basic blocks, the other in bottlenecks.
    Row(f"{THEIRS}.layer.0.convolution", f"{OURS}/conv1", CONVOLUTION),
    Row(f"{THEIRS}.layer.0.convolution", f"{OURS}/reduce", POINTWISE),
    Row(f"{THEIRS}.layer.0.normalization", f"{OURS}/norm1", BATCH_NORM),
    Row(f"{THEIRS}.layer.1.convolution", f"{OURS}/conv2", CONVOLUTION),
    Row(f"{THEIRS}.layer.1.convolution", f"{OURS}/conv", CONVOLUTION),
    Row(f"{THEIRS}.layer.1.normalization", f"{OURS}/norm2", BATCH_NORM),
    Row(f"{THEIRS}.layer.2.convolution", f"{OURS}/expand", POINTWISE),
    Row(f"{THEIRS}.layer.2.normalization", f"{OURS}/norm3", BATCH_NORM),
    Row(f"{THEIRS}.shortcut.convolution", f"{OURS}/shortcut", POINTWISE),
    Row(f"{THEIRS}.shortcut.normalization", f"{OURS}/shortcut_norm", BATCH_NORM),
)

DEFAULTS: dict[str, Any] = {
    **{"embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3]},
    **{"layer_type": "bottleneck", "hidden_act": "relu"},
    **{"downsample_in_first_stage": False, "downsample_in_bottleneck": False},
}


def _options(description: Description) -> dict[str, Any]:
    settings = DEFAULTS | dict(description)
    for key in ("hidden_act", "downsample_in_first_stage"):
        if settings[key] != DEFAULTS[key]:
            raise ValueError(f"{key} is {DEFAULTS[key]!r}; got {settings[key]!r}")
    bottleneck = settings["layer_type"] == "bottleneck"
    expansion = 4 if bottleneck else 1
    return {
        "depths": list(settings["depths"]),
        "block": settings["layer_type"],
        "width": first_width("hidden_sizes", settings["hidden_sizes"], expansion) // expansion,
        "stem_width": settings["embedding_size"],
        "stride_first": bottleneck and settings["downsample_in_bottleneck"],
    }


HUGGINGFACE_RESNET = Format(
    name="transformers' ResNet",
    student="resnet",
    recognises=model_type("resnet"),
    options=_options,
    rows=ROWS,
    head=(Row("classifier.1", "head", LINEAR),),
    exported=huggingface_export("ResNetForImageClassification"),
    prefix="resnet.",
)
