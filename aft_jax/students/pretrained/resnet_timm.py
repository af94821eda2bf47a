"""ResNets as timm publishes them, those of torchvision among them."""

from collections.abc import Mapping
from typing import Any

from aft_jax.students.pretrained.format import (
    Description,
    Format,
    timm_arguments,
    timm_export,
)
from aft_jax.students.pretrained.names import BATCH_NORM, CONVOLUTION, LINEAR, POINTWISE, Row
from aft_jax.students.pretrained.widths import first_width

STAGES = 4

# In timm's words.
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "resnet18": {"block": "basic", "layers": [2, 2, 2, 2]},
    "resnet34": {"block": "basic", "layers": [3, 4, 6, 3]},
    "resnet50": {"block": "bottleneck", "layers": [3, 4, 6, 3]},
    "resnet101": {"block": "bottleneck", "layers": [3, 4, 23, 3]},
    "resnet152": {"block": "bottleneck", "layers": [3, 8, 36, 3]},
}
DEFAULTS = {"channels": [64, 128, 256, 512], "global_pool": "avg"}


def _stage(number: int) -> tuple[Row, ...]:
    """Rows of a stage; timm counts from one."""
    theirs, ours = f"layer{number + 1}.{{i}}", f"tower/stage{number}_{{i}}"
    return (
        # One of each pair has a counterpart: the first in basic blocks, the other in bottlenecks.
        Row(f"{theirs}.conv1", f"{ours}/conv1", CONVOLUTION),
        Row(f"{theirs}.conv1", f"{ours}/reduce", POINTWISE),
        Row(f"{theirs}.bn1", f"{ours}/norm1", BATCH_NORM),
        Row(f"{theirs}.conv2", f"{ours}/conv2", CONVOLUTION),
        Row(f"{theirs}.conv2", f"{ours}/conv", CONVOLUTION),
        Row(f"{theirs}.bn2", f"{ours}/norm2", BATCH_NORM),
        Row(f"{theirs}.conv3", f"{ours}/expand", POINTWISE),
        Row(f"{theirs}.bn3", f"{ours}/norm3", BATCH_NORM),
        Row(f"{theirs}.downsample.0", f"{ours}/shortcut", POINTWISE),
        Row(f"{theirs}.downsample.1", f"{ours}/shortcut_norm", BATCH_NORM),
    )


ROWS = (
    Row("conv1", "tower/stem", CONVOLUTION),
    Row("bn1", "tower/stem_norm", BATCH_NORM),
    *(row for number in range(STAGES) for row in _stage(number)),
)


def built_with(
    description: Description, defaults: Mapping[str, Any], ours: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments that a network of timm is built with.

    Args:
        description: its config.json.
        defaults: argument -> timm's default, for all that our network has a counterpart of.
        ours: those of the named architecture.

    Returns:
        Argument -> value.

    Raises:
        ValueError: the config.json changes one that ours has no counterpart of.
    """
    arguments = {**defaults, **ours}
    arguments |= timm_arguments(description, arguments)
    if arguments["global_pool"] != "avg":
        raise ValueError(f"global_pool is 'avg'; got {arguments['global_pool']!r}")
    return arguments


def _options(description: Description) -> dict[str, Any]:
    published = ARCHITECTURES[description["architecture"]]
    arguments = built_with(description, DEFAULTS, published)
    return {
        "depths": list(arguments["layers"]),
        "block": arguments["block"],
        "width": first_width("channels", arguments["channels"]),
    }


TIMM_RESNET = Format(
    name="timm's ResNets",
    student="resnet",
    recognises=lambda description: description.get("architecture") in ARCHITECTURES,
    options=_options,
    rows=ROWS,
    head=(Row("fc", "head", LINEAR),),
    exported=timm_export,
)
