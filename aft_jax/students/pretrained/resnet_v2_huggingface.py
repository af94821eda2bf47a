"""BiT's residual networks as transformers writes them.

Keys that a config.json leaves out have the defaults of transformers' config class.
"""

from typing import Any

from aft_jax.students.pretrained.format import (
    Description,
    Format,
    huggingface_export,
    model_type,
)
from aft_jax.students.pretrained.names import CONVOLUTION, LINEAR, NORM, Row
from aft_jax.students.pretrained.resnet_v2_timm import blocks
from aft_jax.students.pretrained.widths import first_width

ROWS = (
    Row("embedder.convolution", "tower/stem", CONVOLUTION),
    *blocks("encoder.stages.{s}.layers.{i}"),
    Row("norm", "tower/norm", NORM),
)

SIZES: dict[str, Any] = {
    **{"embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3]},
    "num_groups": 32,
}
FIXED: dict[str, Any] = {
    **{"layer_type": "preactivation", "hidden_act": "relu", "output_stride": 32},
    **{"global_padding": None, "embedding_dynamic_padding": False, "width_factor": 1},
}
"""Keys that have one value here, that of the published ones; transformers runs no other width."""


def _options(description: Description) -> dict[str, Any]:
    settings = SIZES | FIXED | dict(description)
    for key, value in FIXED.items():
        if settings[key] != value:
            raise ValueError(f"{key} is {value!r}; got {settings[key]!r}")
    first = first_width("hidden_sizes", settings["hidden_sizes"], 32)
    return {
        "depths": list(settings["depths"]),
        "width": first // 4,
        "stem_width": settings["embedding_size"],
        "groups": settings["num_groups"],
    }


HUGGINGFACE_RESNET_V2 = Format(
    name="transformers' BiT",
    student="resnet_v2",
    recognises=model_type("bit"),
    options=_options,
    rows=ROWS,
    head=(Row("classifier.1", "head", LINEAR),),
    exported=huggingface_export("BitForImageClassification"),
    prefix="bit.",
)
