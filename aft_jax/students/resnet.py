"""Residual networks with batch norm: ResNet-18 to 152 and what lies between.

He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385; the stride on the 3x3
convolution ("v1.5") and the last norm of a block starting at zero: Goyal et al., arXiv 1706.02677.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.convolution import Convolution, Pointwise
from aft_jax.students.layers.head import Classified
from aft_jax.students.layers.norm import BatchNorm
from aft_jax.students.layers.options import check_choice, check_flags, check_positive
from aft_jax.students.layers.precision import compute_dtype
from aft_jax.students.layers.stages import check_depths, max_pool

EPSILON = 1e-5
"""Added to the variance in every norm."""


class BasicBlock(nn.Module):
    """relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)), both convolutions 3x3.

    Attributes:
        width: channels, inside and out.
        stride: of the first convolution.
        zero_init_last: whether the last norm's scale starts at zero, the block as its shortcut.
        dtype: of the products.
    """

    width: int
    stride: int
    zero_init_last: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, width]."""
        conv = Convolution(self.width, 3, self.stride, 1, dtype=self.dtype, name="conv1")
        y = nn.relu(BatchNorm(EPSILON, self.dtype, name="norm1")(conv(x), train))
        y = Convolution(self.width, 3, 1, 1, dtype=self.dtype, name="conv2")(y)
        last = BatchNorm(EPSILON, self.dtype, name="norm2")
        return nn.relu(_last(self, last, y, train) + _shortcut(self, x, self.width, train))


class BottleneckBlock(nn.Module):
    """As `BasicBlock`, with a 3x3 convolution between two 1x1, the last four times as wide.

    Attributes:
        width: channels inside; four times as many come out.
        stride: of one convolution.
        stride_first: whether it is the first, as in the paper; else it is the 3x3.
        zero_init_last: see `BasicBlock`.
        dtype: of the products.
    """

    width: int
    stride: int
    stride_first: bool
    zero_init_last: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, 4 width]."""
        first, second = (self.stride, 1) if self.stride_first else (1, self.stride)
        y = Pointwise(self.width, stride=first, dtype=self.dtype, name="reduce")(x)
        y = nn.relu(BatchNorm(EPSILON, self.dtype, name="norm1")(y, train))
        y = Convolution(self.width, 3, second, 1, dtype=self.dtype, name="conv")(y)
        y = nn.relu(BatchNorm(EPSILON, self.dtype, name="norm2")(y, train))
        y = Pointwise(4 * self.width, dtype=self.dtype, name="expand")(y)
        last = BatchNorm(EPSILON, self.dtype, name="norm3")
        return nn.relu(_last(self, last, y, train) + _shortcut(self, x, 4 * self.width, train))


def _last(block: Any, norm: BatchNorm, y: jax.Array, train: bool) -> jax.Array:
    """The last norm of a block, made to start at zero where the block says so."""
    y = norm(y, train)
    if block.zero_init_last and norm.is_initializing():
        norm.put_variable("params", "scale", jnp.zeros(y.shape[-1:]))
    return y


def _shortcut(block: Any, x: jax.Array, channels: int, train: bool) -> jax.Array:
    """What goes around a block: x, or a linear map of it where the channels change."""
    if x.shape[-1] == channels:
        return x
    x = Pointwise(channels, stride=block.stride, dtype=block.dtype, name="shortcut")(x)
    return BatchNorm(EPSILON, block.dtype, name="shortcut_norm")(x, train)


BLOCKS = {"basic": BasicBlock, "bottleneck": BottleneckBlock}


class ResNetTower(nn.Module):
    """A 7x7 convolution, a pool, stages of blocks, the mean over the image.

    Each stage after the first halves height and width and doubles the channels.

    Attributes:
        depths: blocks of each stage.
        block: a name in `BLOCKS`.
        width: of the first stage's blocks.
        stem_width: channels of the 7x7 convolution.
        stride_first: see `BottleneckBlock`.
        zero_init_last: see `BasicBlock`.
        dtype: of the products.
        remat: whether activations inside a block are computed again for the gradient instead of
            kept: memory for time.
    """

    depths: tuple[int, ...]
    block: str
    width: int
    stem_width: int
    stride_first: bool
    zero_init_last: bool
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, 3] images -> [b, d] features in float32."""
        stem = Convolution(self.stem_width, 7, 2, 3, dtype=self.dtype, name="stem")
        x = BatchNorm(EPSILON, self.dtype, name="stem_norm")(stem(images), train)
        x = max_pool(nn.relu(x))
        block: Any = BLOCKS[self.block]
        if self.remat:
            block = nn.remat(block, static_argnums=(2,))  # train
        shared: dict[str, Any] = {"zero_init_last": self.zero_init_last, "dtype": self.dtype}
        if self.block == "bottleneck":
            shared["stride_first"] = self.stride_first
        for stage, depth in enumerate(self.depths):
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                width, name = self.width * 2**stage, f"stage{stage}_{number}"
                x = block(width=width, stride=stride, **shared, name=name)(x, train)
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2))


def resnet(
    num_classes: int,
    *,
    depths: Any,
    block: Any,
    width: Any = 64,
    stem_width: Any = 64,
    stride_first: Any = False,
    zero_init_last: Any = True,
    dtype: Any = "float32",
    remat: Any = False,
) -> Classified:
    """A residual network; ResNet-50 has depths [3, 4, 6, 3] of block "bottleneck".

    Args:
        num_classes: k, the head's outputs.
        depths: blocks of each stage.
        block: "basic" or "bottleneck".
        width: of the first stage's blocks.
        stem_width: channels of the first convolution.
        stride_first: whether a bottleneck's stride is on its first convolution.
        zero_init_last: whether, of random weights, the last norm of each block has scale zero.
        dtype: of products and activations, "float32", "bfloat16" or "float16".
        remat: whether activations inside a block are computed again for the gradient.

    Returns:
        The module; d is 2^(stages - 1) width, times 4 for bottlenecks.

    Raises:
        ValueError: an option has another form, or two contradict each other.
    """
    check_choice("block", block, BLOCKS)
    check_positive(width=width, stem_width=stem_width)
    check_flags(stride_first=stride_first, zero_init_last=zero_init_last, remat=remat)
    if stride_first and block != "bottleneck":
        raise ValueError(
            f"stride_first is for block='bottleneck'; got {block!r}, whose stride is always on "
            "its first convolution. Leave it out"
        )
    tower = ResNetTower(
        depths=check_depths(depths),
        block=block,
        width=width,
        stem_width=stem_width,
        stride_first=stride_first,
        zero_init_last=zero_init_last,
        dtype=compute_dtype(dtype),
        remat=remat,
    )
    return Classified(num_classes, tower)
