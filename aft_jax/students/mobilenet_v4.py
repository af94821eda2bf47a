"""MobileNetV4, its convolutional models: small, fast students.

Qin et al., "MobileNetV4: Universal Models for the Mobile Ecosystem", ECCV 2024, arXiv 2404.10518.

Why this and not MobileNetV3 (Howard et al., arXiv 1905.02244): that one owes its accuracy to
hard-swish and squeeze-and-excitation, and these are what accelerators are slow at: a global mean
and two small products in the middle of a block, which fuse with none of its convolutions. Version
4 has convolutions, batch norm and ReLU, nothing else, so that one network suits phone, CPU, GPU and
TPU; its authors report about half of version 3's latency at equal accuracy. The small model has
3,774,024 parameters with 1,000 classes, the medium one 9,715,512, the large one 32,590,864; a
narrower one has 2,238,952 (half the width).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.convolution import INIT, Convolution, Depthwise, Pointwise
from aft_jax.students.layers.head import Classified
from aft_jax.students.layers.norm import BatchNorm
from aft_jax.students.layers.options import check_choice, check_flags, check_positive
from aft_jax.students.layers.precision import compute_dtype

EPSILON = 1e-5
"""Of every batch norm."""

Blocks = Sequence[Sequence[Mapping[str, Any]]]
"""Stages of blocks: of each its kind and the numbers that `KINDS` names."""


class ConvolutionBlock(nn.Module):
    """relu(norm(convolution(x))).

    Attributes:
        kernel: side of the window.
        stride: of the convolution.
        channels: that come out.
        dtype: of the products.
    """

    kernel: int
    stride: int
    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, channels]."""
        if self.kernel == 1:
            x = Pointwise(self.channels, stride=self.stride, dtype=self.dtype, name="pointwise")(x)
        else:
            x = _windows(self.channels, self.kernel, self.stride, self.dtype, "convolution")(x)
        return nn.relu(BatchNorm(EPSILON, self.dtype, name="norm")(x, train))


class FusedBlock(nn.Module):
    """The fused inverted bottleneck: a convolution, then a pointwise map.

        norm(project(relu(norm(expand(x))))), plus x where the stride is 1 and the channels stay

    Attributes:
        kernel: side of the window.
        stride: of the convolution.
        expansion: channels between the two, as a multiple of those that come in.
        channels: that come out.
        dtype: of the products.
    """

    kernel: int
    stride: int
    expansion: int
    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, channels]."""
        inner = self.expansion * x.shape[-1]
        y = _windows(inner, self.kernel, self.stride, self.dtype, "expand")(x)
        y = nn.relu(BatchNorm(EPSILON, self.dtype, name="expand_norm")(y, train))
        y = Pointwise(self.channels, dtype=self.dtype, name="project")(y)
        y = BatchNorm(EPSILON, self.dtype, name="project_norm")(y, train)
        return x + y if _has_shortcut(self, x) else y


class UniversalBlock(nn.Module):
    """The universal inverted bottleneck: two pointwise maps with up to two depthwise ones.

        y = norm(start(x)),  z = relu(norm(expand(y))),  v = relu(norm(middle(z))),
        norm(project(v)), plus x where the stride is 1 and the channels stay

    With both depthwise convolutions it is the paper's ExtraDW, with the middle one an inverted
    bottleneck, with the first one ConvNeXt's block and with none a feed-forward network.

    Attributes:
        start: side of the first window; 0 leaves it out.
        middle: side of the second one; 0 leaves it out.
        stride: of the last of the two.
        expansion: channels between the maps, as a multiple of those that come in.
        channels: that come out.
        dtype: of the products.
    """

    start: int
    middle: int
    stride: int
    expansion: int
    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, channels]."""

        def normed(layer: nn.Module, y: jax.Array) -> jax.Array:
            return BatchNorm(EPSILON, self.dtype, name=f"{layer.name}_norm")(layer(y), train)

        def depthwise(size: int, stride: int, name: str) -> Depthwise:
            return Depthwise(size, stride, size // 2, dtype=self.dtype, name=name)

        y, inner = x, self.expansion * x.shape[-1]
        if self.start:
            stride = 1 if self.middle else self.stride
            y = normed(depthwise(self.start, stride, "start"), y)
        y = nn.relu(normed(Pointwise(inner, dtype=self.dtype, name="expand"), y))
        if self.middle:
            y = nn.relu(normed(depthwise(self.middle, self.stride, "middle"), y))
        y = normed(Pointwise(self.channels, dtype=self.dtype, name="project"), y)
        return x + y if _has_shortcut(self, x) else y


def _has_shortcut(block: FusedBlock | UniversalBlock, x: jax.Array) -> bool:
    # Not where the shapes agree: those of a single pixel do with any stride.
    return block.stride == 1 and block.channels == x.shape[-1]


def _windows(channels: int, size: int, stride: int, dtype: Any, name: str) -> Convolution:
    """A convolution with as many zeros on each side as torch's models have."""
    return Convolution(channels, size, stride, size // 2, dtype=dtype, name=name)


KINDS: Mapping[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "convolution": (ConvolutionBlock, ("kernel", "stride", "channels")),
    "fused": (FusedBlock, ("kernel", "stride", "expansion", "channels")),
    "universal": (UniversalBlock, ("start", "middle", "stride", "expansion", "channels")),
}
"""Kind of block -> its module and the numbers that make one, explained there."""


class MobileTower(nn.Module):
    """Stem, blocks, pooling and a last map: an image's features without a classifier.

    Attributes:
        stem: channels of the first convolution.
        blocks: see `Blocks`.
        head_width: d.
        dtype: of the products.
        remat: whether activations inside a block are computed again for the gradient instead of
            kept: memory for time.
    """

    stem: int
    blocks: Blocks
    head_width: int
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, 3] images -> [b, d] features in float32."""
        x = _windows(self.stem, 3, 2, self.dtype, "stem")(images.astype(self.dtype))
        x = nn.relu(BatchNorm(EPSILON, self.dtype, name="stem_norm")(x, train))
        for stage, blocks in enumerate(self.blocks):
            for index, block in enumerate(blocks):
                x = self._block(block, f"{stage}_{index}")(x, train)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        last = nn.Dense(
            self.head_width, use_bias=False, dtype=self.dtype, kernel_init=INIT, name="last"
        )
        return nn.relu(BatchNorm(EPSILON, jnp.float32, name="last_norm")(last(x), train))

    def _block(self, block: Mapping[str, Any], number: str) -> nn.Module:
        kind = block["kind"]
        module, names = KINDS[kind]
        if self.remat:
            module = nn.remat(module, static_argnums=(2,))
        numbers: dict[str, Any] = {name: block[name] for name in names}
        return module(**numbers, dtype=self.dtype, name=f"{kind}{number}")


def mobilenet_v4(
    num_classes: int,
    *,
    stem: Any,
    blocks: Any,
    head_width: Any = 1280,
    dtype: Any = "float32",
    remat: Any = False,
) -> Classified:
    """A MobileNetV4.

    Args:
        num_classes: k, the head's outputs.
        stem: channels of the first convolution, 3x3 with stride 2.
        blocks: a list of stages, each a list of blocks such as {"kind": "universal", "start": 5,
            "middle": 3, "stride": 2, "expansion": 4, "channels": 96}, see `KINDS`.
        head_width: d, width of the features.
        dtype: of the products and activations, "float32", "bfloat16" or "float16".
        remat: see `MobileTower`.

    Returns:
        The module.

    Raises:
        ValueError: an option has another form, or the numbers of a block contradict each other.
    """
    check_positive(stem=stem, head_width=head_width)
    check_flags(remat=remat)
    if not isinstance(blocks, list | tuple) or not blocks:
        raise ValueError(f"blocks is a list of stages; got {blocks!r}")
    for number, stage in enumerate(blocks):
        if not isinstance(stage, list | tuple) or not stage:
            raise ValueError(f"blocks[{number}] is a list of blocks; got {stage!r}")
        for index, block in enumerate(stage):
            _check_block(f"blocks[{number}][{index}]", block)
    stages = tuple(tuple(stage) for stage in blocks)
    return Classified(
        num_classes, MobileTower(stem, stages, head_width, compute_dtype(dtype), remat)
    )


def _check_block(name: str, block: Any) -> None:
    if not isinstance(block, Mapping) or "kind" not in block:
        raise ValueError(f'{name} is a mapping with a "kind"; got {block!r}')
    check_choice(f"{name}.kind", block["kind"], KINDS)
    _, names = KINDS[block["kind"]]
    if set(block) != {"kind", *names}:
        raise ValueError(
            f"{name}, of kind {block['kind']!r}, has the keys kind, {', '.join(names)}; got "
            f"{', '.join(block)}"
        )
    windows = [key for key in ("kernel", "start", "middle") if key in block]
    check_positive(**{f"{name}.{key}": block[key] for key in names if key not in windows})
    for key in windows:
        size = block[key]
        absent = key != "kernel" and size == 0
        # An even window has no middle: its zeros would shift the image by half a pixel.
        if type(size) is not int or not (absent or (size > 0 and size % 2)):
            zero = "" if key == "kernel" else ", or 0 for none"
            raise ValueError(f"{name}.{key} is an odd number of pixels{zero}; got {size!r}")
    if block["stride"] > 1 and not any(block[key] for key in windows):
        raise ValueError(
            f"{name} has a window to move by its stride of {block['stride']}; got start and middle "
            "0. Set one of them to 3, or the stride to 1"
        )
