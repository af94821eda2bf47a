"""Pre-activation residual networks without batch statistics: BiT of any size.

Kolesnikov et al., "Big Transfer", arXiv 1912.11370; the order of norm and convolution: He et al.,
arXiv 1603.05027; standardised weights: Qiao et al., arXiv 1903.10520; group norm: Wu and He,
arXiv 1803.08494.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.convolution import Convolution, Pointwise
from aft_jax.students.layers.head import Classified
from aft_jax.students.layers.options import check_flags, check_positive
from aft_jax.students.layers.precision import compute_dtype
from aft_jax.students.layers.stages import check_depths, max_pool
from aft_jax.types import PyTree

NORM_EPSILON = 1e-5
"""Added to the variance of a group."""
KERNEL_EPSILON = 1e-8
"""Added to the variance of a kernel."""


def standardised(layer: type[nn.Module]) -> Any:
    """A convolution with kernel (k - mean) / sqrt(var + `KERNEL_EPSILON`), in float32.

    Mean and variance are those of each output channel; the parameter stays k.

    Args:
        layer: its parameters are a kernel.

    Returns:
        The module's class, with the attributes of `layer`.
    """
    return nn.map_variables(layer, "params", _standardise, init=True)


def _standardise(variables: PyTree) -> PyTree:
    def kernel_of(kernel: jax.Array) -> jax.Array:
        axes = tuple(range(kernel.ndim - 1))
        kernel = kernel - jnp.mean(kernel, axes, keepdims=True)
        variance = jnp.mean(jnp.square(kernel), axes, keepdims=True)
        return kernel * jax.lax.rsqrt(variance + KERNEL_EPSILON)

    return jax.tree.map(kernel_of, variables)


def _activated(x: jax.Array, groups: int, name: str) -> jax.Array:
    """relu(norm(x)) over groups of channels; the norm is in float32."""
    norm = nn.GroupNorm(
        num_groups=groups,
        epsilon=NORM_EPSILON,
        dtype=jnp.float32,
        use_fast_variance=False,  # E[x^2] - E[x]^2 cancels where the mean is large
        name=name,
    )
    return nn.relu(norm(x.astype(jnp.float32))).astype(x.dtype)


class PreActivationBlock(nn.Module):
    """y = relu(norm(x)), then f(y) + x, or f(y) + W y where the shape changes.

    f is 1x1, 3x3 and 1x1 convolutions, the last four times as wide, with relu(norm(.)) between.

    Attributes:
        width: channels inside; four times as many come out.
        stride: of the 3x3 convolution, and of W.
        projected: whether there is W.
        groups: of each norm.
        dtype: of the products.
    """

    width: int
    stride: int
    projected: bool
    groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, 4 width]."""
        pointwise, convolution = standardised(Pointwise), standardised(Convolution)
        y = _activated(x, self.groups, "norm1")
        if self.projected:
            x = pointwise(4 * self.width, stride=self.stride, dtype=self.dtype, name="shortcut")(y)
        y = pointwise(self.width, dtype=self.dtype, name="reduce")(y)
        y = _activated(y, self.groups, "norm2")
        y = convolution(self.width, 3, self.stride, 1, dtype=self.dtype, name="conv")(y)
        y = _activated(y, self.groups, "norm3")
        return pointwise(4 * self.width, dtype=self.dtype, name="expand")(y) + x


class ResNetV2Tower(nn.Module):
    """A 7x7 convolution, a pool, stages of blocks, a norm, the mean over the image.

    Each stage after the first halves height and width and doubles the channels.

    Attributes:
        depths: blocks of each stage.
        width: of the first stage's blocks.
        stem_width: channels of the 7x7 convolution.
        groups: of each norm.
        dtype: of the products.
        remat: see `resnet_v2`.
    """

    depths: tuple[int, ...]
    width: int
    stem_width: int
    groups: int
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, 3] images -> [b, d] features in float32."""
        stem = standardised(Convolution)(self.stem_width, 7, 2, 3, dtype=self.dtype, name="stem")
        x = max_pool(stem(images))
        block: Any = nn.remat(PreActivationBlock) if self.remat else PreActivationBlock
        for stage, depth in enumerate(self.depths):
            for number in range(depth):
                x = block(
                    width=self.width * 2**stage,
                    stride=2 if stage > 0 and number == 0 else 1,
                    projected=number == 0,
                    groups=self.groups,
                    dtype=self.dtype,
                    name=f"stage{stage}_{number}",
                )(x)
        x = _activated(x, self.groups, "norm")
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2))


def resnet_v2(
    num_classes: int,
    *,
    depths: Any,
    width: Any = 64,
    stem_width: Any = 64,
    groups: Any = 32,
    dtype: Any = "float32",
    remat: Any = False,
) -> Classified:
    """A residual network with group norm and standardised weights.

    BiT R50x1 has depths [3, 4, 6, 3]; R50x3 has width and stem_width 192.

    Args:
        num_classes: k, the head's outputs.
        depths: blocks of each stage.
        width: of the first stage's blocks.
        stem_width: channels of the first convolution.
        groups: of channels, in each norm.
        dtype: of products and activations, "float32", "bfloat16" or "float16".
        remat: whether activations inside a block are computed again for the gradient instead of
            kept: memory for time.

    Returns:
        The module; d is 2^(stages + 1) width.

    Raises:
        ValueError: an option has another form, or two contradict each other.
    """
    check_positive(width=width, stem_width=stem_width, groups=groups)
    check_flags(remat=remat)
    for name, channels in {"width": width, "stem_width": stem_width}.items():
        if channels % groups:
            raise ValueError(f"{name} is a multiple of groups; got {channels} for {groups} groups")
    tower = ResNetV2Tower(
        depths=check_depths(depths),
        width=width,
        stem_width=stem_width,
        groups=groups,
        dtype=compute_dtype(dtype),
        remat=remat,
    )
    return Classified(num_classes, tower)
