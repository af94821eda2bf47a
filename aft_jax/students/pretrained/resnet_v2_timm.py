"""BiT's residual networks as timm publishes them."""

from collections.abc import Mapping
from typing import Any

from aft_jax.students.pretrained.format import Description, Format, timm_export
from aft_jax.students.pretrained.names import CONVOLUTION, NORM, POINTWISE, Row
from aft_jax.students.pretrained.resnet_timm import built_with
from aft_jax.students.pretrained.widths import first_width


def blocks(theirs: str) -> tuple[Row, ...]:
    """Rows of the blocks, which other publishers name alike.

    Args:
        theirs: name of a block, with {s} for its stage and {i} for its number there.

    Returns:
        The rows.
    """
    ours = "tower/stage{s}_{i}"
    return (
        Row(f"{theirs}.norm1", f"{ours}/norm1", NORM),
        Row(f"{theirs}.conv1", f"{ours}/reduce", POINTWISE),
        Row(f"{theirs}.norm2", f"{ours}/norm2", NORM),
        Row(f"{theirs}.conv2", f"{ours}/conv", CONVOLUTION),
        Row(f"{theirs}.norm3", f"{ours}/norm3", NORM),
        Row(f"{theirs}.conv3", f"{ours}/expand", POINTWISE),
        Row(f"{theirs}.downsample.conv", f"{ours}/shortcut", POINTWISE),
    )


ROWS = (
    Row("stem.conv", "tower/stem", CONVOLUTION),
    *blocks("stages.{s}.blocks.{i}"),
    Row("norm", "tower/norm", NORM),
)

# In timm's words.
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "resnetv2_50x1_bit": {"layers": [3, 4, 6, 3], "width_factor": 1},
    "resnetv2_50x3_bit": {"layers": [3, 4, 6, 3], "width_factor": 3},
    "resnetv2_101x1_bit": {"layers": [3, 4, 23, 3], "width_factor": 1},
    "resnetv2_101x3_bit": {"layers": [3, 4, 23, 3], "width_factor": 3},
    "resnetv2_152x2_bit": {"layers": [3, 8, 36, 3], "width_factor": 2},
    "resnetv2_152x4_bit": {"layers": [3, 8, 36, 3], "width_factor": 4},
}
DEFAULTS = {"channels": [256, 512, 1024, 2048], "stem_chs": 64, "global_pool": "avg"}


def _options(description: Description) -> dict[str, Any]:
    published = ARCHITECTURES[description["architecture"]]
    arguments = built_with(description, DEFAULTS, published)
    factor = arguments["width_factor"]
    return {
        "depths": list(arguments["layers"]),
        "width": first_width("channels", arguments["channels"], 32) // 4 * factor,
        "stem_width": arguments["stem_chs"] * factor,
    }


TIMM_RESNET_V2 = Format(
    name="timm's BiT",
    student="resnet_v2",
    recognises=lambda description: description.get("architecture") in ARCHITECTURES,
    options=_options,
    rows=ROWS,
    head=(Row("head.fc", "head", POINTWISE),),
    exported=timm_export,
)
