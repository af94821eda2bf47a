"""A small convolutional network for small images: the demo's student, and, wider, its teacher."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.precision import compute_dtype
from aft_jax.students.layers.small_convolution import convolve_small
from aft_jax.types import StudentOutput


class Conv(nn.Module):
    """A 3x3 convolution, zeros around the image; its name is in the files of saved students.

    Attributes:
        features: channels that come out.
        stride: of the window.
        dtype: of the products.
    """

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h / stride, w / stride, features], rounded up."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        # Weights read from a file are NumPy's.
        x, kernel = (jnp.asarray(array, self.dtype) for array in (x, kernel))
        return convolve_small(x, kernel, self.stride)


class SmallCnn(nn.Module):
    """3x3 convolutions with group norm, global average pooling, one linear head.

    Group norm, not batch norm: statistics over the batch tie the rows together, and small students
    trained with the kernel loss do worse with them.

    Attributes:
        num_classes: k, the head's outputs.
        widths: channels of each convolution; the last one is the feature width d.
        strides: of each convolution.
        dtype: of the convolutions.
    """

    num_classes: int
    widths: Sequence[int]
    strides: Sequence[int]
    dtype: Any

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> StudentOutput:
        """[b, h, w, c] images -> logits [b, k] and pooled features [b, d]."""
        x = images
        for width, stride in zip(self.widths, self.strides, strict=True):
            x = Conv(width, stride, self.dtype)(x)
            x = nn.relu(nn.GroupNorm(num_groups=_groups(width))(x.astype(jnp.float32)))
        features = jnp.mean(x, axis=(1, 2))
        return StudentOutput(nn.Dense(self.num_classes, name="head")(features), features)


def small_cnn(num_classes: int, widths: Any, strides: Any, dtype: Any = "float32") -> SmallCnn:
    """The module, its options checked.

    Args:
        num_classes: k, the head's outputs.
        widths: channels of each convolution.
        strides: of each convolution.
        dtype: of the convolutions, "float32", "bfloat16" or "float16".

    Returns:
        The module.

    Raises:
        ValueError: the options are not two lists of positive integers of the same length, or the
            dtype is unknown.
    """
    for name, values in {"widths": widths, "strides": strides}.items():
        if not isinstance(values, list | tuple) or not values:
            raise ValueError(f"{name} is a list with a number for each convolution; got {values!r}")
        if not all(type(value) is int and value > 0 for value in values):
            raise ValueError(f"{name} are positive integers; got {values!r}")
    if len(widths) != len(strides):
        raise ValueError(
            "widths and strides have one number for each convolution; got "
            f"widths {widths!r} and strides {strides!r}"
        )
    for width in widths:
        if width % _groups(width):
            raise ValueError(
                f"a width is a multiple of its groups in group norm; got {width} for "
                f"{_groups(width)} groups. Multiples of 8 always fit"
            )
    return SmallCnn(num_classes, tuple(widths), tuple(strides), compute_dtype(dtype))


def _groups(width: int) -> int:
    """Of a group norm over that many channels: at most 8, of at least 4 channels."""
    return max(1, min(8, width // 4))
