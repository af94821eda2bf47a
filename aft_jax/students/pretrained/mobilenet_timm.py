"""MobileNetV4's convolutional models as timm publishes them."""

from collections.abc import Mapping
from typing import Any

from aft_jax.students.pretrained.format import (
    Description,
    Format,
    timm_arguments,
    timm_export,
)
from aft_jax.students.pretrained.names import (
    BATCH_NORM,
    CONVOLUTION,
    DEPTHWISE,
    LINEAR,
    POINTWISE,
    Row,
)

ROWS = (
    Row("conv_stem", "tower/stem", CONVOLUTION),
    Row("bn1", "tower/stem_norm", BATCH_NORM),
    Row("blocks.{s}.{i}.conv", "tower/convolution{s}_{i}/convolution", CONVOLUTION),
    Row("blocks.{s}.{i}.conv", "tower/convolution{s}_{i}/pointwise", POINTWISE),
    Row("blocks.{s}.{i}.bn1", "tower/convolution{s}_{i}/norm", BATCH_NORM),
    Row("blocks.{s}.{i}.conv_exp", "tower/fused{s}_{i}/expand", CONVOLUTION),
    Row("blocks.{s}.{i}.bn1", "tower/fused{s}_{i}/expand_norm", BATCH_NORM),
    Row("blocks.{s}.{i}.conv_pwl", "tower/fused{s}_{i}/project", POINTWISE),
    Row("blocks.{s}.{i}.bn2", "tower/fused{s}_{i}/project_norm", BATCH_NORM),
    Row("blocks.{s}.{i}.dw_start.conv", "tower/universal{s}_{i}/start", DEPTHWISE),
    Row("blocks.{s}.{i}.dw_start.bn", "tower/universal{s}_{i}/start_norm", BATCH_NORM),
    Row("blocks.{s}.{i}.pw_exp.conv", "tower/universal{s}_{i}/expand", POINTWISE),
    Row("blocks.{s}.{i}.pw_exp.bn", "tower/universal{s}_{i}/expand_norm", BATCH_NORM),
    Row("blocks.{s}.{i}.dw_mid.conv", "tower/universal{s}_{i}/middle", DEPTHWISE),
    Row("blocks.{s}.{i}.dw_mid.bn", "tower/universal{s}_{i}/middle_norm", BATCH_NORM),
    Row("blocks.{s}.{i}.pw_proj.conv", "tower/universal{s}_{i}/project", POINTWISE),
    Row("blocks.{s}.{i}.pw_proj.bn", "tower/universal{s}_{i}/project_norm", BATCH_NORM),
    Row("conv_head", "tower/last", POINTWISE),
    Row("norm_head", "tower/last_norm", BATCH_NORM),
)

Stage = tuple[dict[str, Any], ...]


def _convolution(kernel: int, stride: int, channels: int) -> dict[str, Any]:
    return {"kind": "convolution", "kernel": kernel, "stride": stride, "channels": channels}


def _fused(kernel: int, stride: int, expansion: int, channels: int) -> dict[str, Any]:
    sizes = {"kernel": kernel, "stride": stride}
    return {"kind": "fused", **sizes, "expansion": expansion, "channels": channels}


def _universal(channels: int, *sizes: tuple[int, int, int], stride: int = 2) -> Stage:
    """Blocks of a stage: start, middle and expansion of each; the stride is the first one's."""
    return tuple(
        {
            **{"kind": "universal", "start": start, "middle": middle},
            **{"stride": 1 if index else stride, "expansion": expansion, "channels": channels},
        }
        for index, (start, middle, expansion) in enumerate(sizes)
    )


SMALL: tuple[Stage, ...] = (
    (_convolution(3, 2, 32), _convolution(1, 1, 32)),
    (_convolution(3, 2, 96), _convolution(1, 1, 64)),
    _universal(96, (5, 5, 3), *[(0, 3, 2)] * 4, (3, 0, 4)),
    _universal(128, (3, 3, 6), (5, 5, 4), (0, 5, 4), (0, 5, 3), (0, 3, 4), (0, 3, 4)),
    (_convolution(1, 1, 960),),
)
MEDIUM: tuple[Stage, ...] = (
    (_fused(3, 2, 4, 48),),
    _universal(80, (3, 5, 4), (3, 3, 2)),
    _universal(
        160,
        *[(3, 5, 6), (3, 3, 4), (3, 3, 4), (3, 5, 4)],
        *[(3, 3, 4), (3, 0, 4), (0, 0, 2), (3, 0, 4)],
    ),
    _universal(
        256,
        *[(5, 5, 6), (5, 5, 4), (3, 5, 4), (3, 5, 4), (0, 0, 4), (3, 0, 4)],
        *[(3, 5, 2), (5, 5, 4), (0, 0, 4), (0, 0, 4), (5, 0, 2)],
    ),
    (_convolution(1, 1, 960),),
)
LARGE: tuple[Stage, ...] = (
    (_fused(3, 2, 4, 48),),
    _universal(96, (3, 5, 4), (3, 3, 4)),
    _universal(192, (3, 5, 4), *[(3, 3, 4)] * 3, (3, 5, 4), *[(5, 3, 4)] * 5, (3, 0, 4)),
    _universal(
        512,
        *[(5, 5, 4)] * 4,
        *[(5, 0, 4), (5, 3, 4), (5, 0, 4), (5, 0, 4), (5, 3, 4), (5, 5, 4)],
        *[(5, 0, 4)] * 3,
    ),
    (_convolution(1, 1, 960),),
)


def _narrowed(stages: tuple[Stage, ...], share: float) -> tuple[Stage, ...]:
    """The same stages with a share of the channels."""
    return tuple(
        tuple(block | {"channels": _rounded(share * block["channels"])} for block in stage)
        for stage in stages
    )


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, or the next one where that takes more than a tenth away."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "mobilenetv4_conv_small_035": {"stem": 32, "blocks": _narrowed(SMALL, 0.35)},
    "mobilenetv4_conv_small_050": {"stem": 32, "blocks": _narrowed(SMALL, 0.5)},
    "mobilenetv4_conv_small": {"stem": 32, "blocks": SMALL},
    "mobilenetv4_conv_medium": {"stem": 32, "blocks": MEDIUM},
    "mobilenetv4_conv_large": {"stem": 24, "blocks": LARGE},
}
"""Name in a config.json -> the student's options."""


def _recognises(description: Description) -> bool:
    return description.get("architecture") in ARCHITECTURES


def _options(description: Description) -> dict[str, Any]:
    timm_arguments(description, ())  # none: a model of your own is described by options
    return dict(ARCHITECTURES[description["architecture"]])


TIMM_MOBILENET_V4 = Format(
    name="timm's MobileNetV4",
    student="mobilenet_v4",
    recognises=_recognises,
    options=_options,
    rows=ROWS,
    head=(Row("classifier", "head", LINEAR),),
    exported=timm_export,
)
