"""A small convolutional network for small images: the demo's student, and, wider, its teacher."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.types import StudentOutput


class SmallCnn(nn.Module):
    """3x3 convolutions with group norm, global average pooling, one linear head.

    Group norm, not batch norm: statistics over the batch tie the rows together, and small students
    trained with the kernel loss do worse with them.

    Attributes:
        num_classes: k, the head's outputs.
        widths: channels of each convolution; the last one is the feature width d.
        strides: of each convolution.
    """

    num_classes: int
    widths: Sequence[int]
    strides: Sequence[int]

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> StudentOutput:
        """[b, h, w, c] images -> logits [b, k] and pooled features [b, d]."""
        x = images.astype(jnp.float32)
        for width, stride in zip(self.widths, self.strides, strict=True):
            x = nn.Conv(width, (3, 3), strides=stride, use_bias=False)(x)
            x = nn.relu(nn.GroupNorm(num_groups=max(1, min(8, width // 4)))(x))
        features = jnp.mean(x, axis=(1, 2))
        return StudentOutput(nn.Dense(self.num_classes, name="head")(features), features)
