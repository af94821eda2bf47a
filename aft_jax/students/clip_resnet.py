"""CLIP's modified ResNet: a deeper stem, average pools for strides, attention for the last pool.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", arXiv
2103.00020, section 2.4; the stem and the shortcuts are those of ResNet-D, He et al., arXiv
1812.01187; pooling before a stride: Zhang, arXiv 1904.11486.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.convolution import Convolution, Pointwise
from aft_jax.students.layers.dense import INIT
from aft_jax.students.layers.norm import BatchNorm
from aft_jax.students.layers.options import check_positive
from aft_jax.students.layers.precision import compute_dtype, plus
from aft_jax.students.layers.projection import Projection
from aft_jax.students.layers.stages import check_depths
from aft_jax.students.vit import ProbeAttention

EPSILON = 1e-5
"""Of every batch norm."""

EXPANSION = 4
"""A block's output is this many times as wide as what is between its 1x1 convolutions."""

STAGES = 4
REDUCTION = 32
"""Pixels of the image along one pixel of the last map: 4 by the stem, 2 by each later stage."""


class Bottleneck(nn.Module):
    """relu(shortcut(x) + f(x)), f of a 1x1, a 3x3 and a 1x1 convolution with batch norms.

    A stride is an average pool, in f between the last two convolutions, in the shortcut before its
    1x1 convolution.

    Attributes:
        width: of the 3x3 convolution; the block's output is `EXPANSION` times as wide.
        stride: s.
        dtype: of the products.
    """

    width: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, c] -> [b, h / s, w / s, EXPANSION width]."""
        outputs = EXPANSION * self.width
        y = Pointwise(self.width, dtype=self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(EPSILON, self.dtype, name="norm1")(y, train))
        y = Convolution(self.width, 3, padding=1, dtype=self.dtype, name="conv2")(y)
        y = nn.relu(BatchNorm(EPSILON, self.dtype, name="norm2")(y, train))
        y = Pointwise(outputs, dtype=self.dtype, name="conv3")(average_pool(y, self.stride))
        y = BatchNorm(EPSILON, self.dtype, name="norm3")(y, train)
        if self.stride > 1 or x.shape[-1] != outputs:
            x = average_pool(x, self.stride)
            x = Pointwise(outputs, dtype=self.dtype, name="shortcut")(x)
            x = BatchNorm(EPSILON, self.dtype, name="shortcut_norm")(x, train)
        return nn.relu(x + y)


class MeanAttention(nn.Module):
    """The mean of a map's pixels attends to them and to itself, positions added; a linear map.

    Attributes:
        heads: of the attention.
        output: d.
        dtype: of the products.
    """

    heads: int
    output: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, d] in float32."""
        batch, channels = x.shape[0], x.shape[-1]
        x = x.reshape(batch, -1, channels)
        x = jnp.concatenate([jnp.mean(x, axis=1, keepdims=True), x], axis=1)
        x = plus(x, self.param("positions", INIT, x.shape[1:]))
        x = ProbeAttention(self.heads, self.dtype, name="qkv")(x[:, :1], x)
        x = x.reshape(batch, channels)
        return Projection(self.output, use_bias=True, dtype=self.dtype, name="out")(x)


class ModifiedResNet(nn.Module):
    """Stem, stages of bottlenecks, attention over the last map: an image's features.

    Attributes:
        image_size: side of the image, in pixels.
        depths: blocks of each stage.
        width: of the stem, and of the 3x3 convolutions of the first stage; each further one has
            twice as many channels.
        heads: of the attention.
        output: d.
        dtype: of the products.
        remat: whether activations inside a block are computed again for the gradient instead of
            kept: memory for time.
    """

    image_size: int
    depths: Sequence[int]
    width: int
    heads: int
    output: int
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, 3] images -> [b, d] features in float32."""
        self._check_size(images)
        x = self._stem(images, train)
        block = nn.remat(Bottleneck, static_argnums=(2,)) if self.remat else Bottleneck
        for stage, depth in enumerate(self.depths):
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                name = f"layer{stage + 1}_{number}"
                x = block(self.width * 2**stage, stride, self.dtype, name=name)(x, train)
        return MeanAttention(self.heads, self.output, self.dtype, name="pool")(x)

    def _check_size(self, images: jax.Array) -> None:
        if images.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(
                "CLIP's ResNet pools by attention, with a position for every pixel of its last map "
                "and so for images of student.options.image.image_size, "
                f"{self.image_size} pixels a side; got {images.shape[1]} x {images.shape[2]}. "
                f"Set config.inputs.image_size to {self.image_size}; public weights of it have no "
                "positions for another size."
            )

    def _stem(self, x: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, 3] -> [b, h / 4, w / 4, width]."""
        widths = (self.width // 2, self.width // 2, self.width)
        for number, (width, stride) in enumerate(zip(widths, (2, 1, 1), strict=True), 1):
            name = f"conv{number}"
            x = Convolution(width, 3, stride, padding=1, dtype=self.dtype, name=name)(x)
            x = nn.relu(BatchNorm(EPSILON, self.dtype, name=f"norm{number}")(x, train))
        return average_pool(x, 2)


def average_pool(x: jax.Array, size: int) -> jax.Array:
    """Means of size x size pixels; rows and columns that fill no window are left out.

    Args:
        x: [b, h, w, c].
        size: side of the window, and its step.

    Returns:
        [b, h / size, w / size, c], rounded down.
    """
    if size == 1:
        return x
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    x = x[:, : rows * size, : columns * size]
    return jnp.mean(x.reshape(batch, rows, size, columns, size, channels), axis=(2, 4))


def modified_resnet(
    *,
    image_size: Any,
    depths: Any,
    width: Any,
    heads: Any,
    output: Any,
    dtype: Any = "float32",
    remat: Any = False,
) -> ModifiedResNet:
    """The tower, its options checked; they are the attributes of `ModifiedResNet`.

    Raises:
        ValueError: an option has another form, or two contradict each other.
    """
    check_positive(image_size=image_size, width=width, heads=heads, output=output)
    depths = check_depths(depths)
    if len(depths) != STAGES:
        raise ValueError(f"depths are those of {STAGES} stages; got {len(depths)} of them")
    if image_size % REDUCTION:
        raise ValueError(
            f"image_size is a multiple of {REDUCTION}, by which the stem and the stages reduce "
            f"it; got {image_size}. Take {-(-image_size // REDUCTION) * REDUCTION}"
        )
    channels = EXPANSION * width * 2 ** (STAGES - 1)
    if width % 2 or channels % heads:
        raise ValueError(
            f"width is even, and heads divide the {channels} channels of the last map; got width "
            f"{width} and {heads} heads"
        )
    return ModifiedResNet(image_size, depths, width, heads, output, compute_dtype(dtype), remat)
