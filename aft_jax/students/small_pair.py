"""A small network for an image and a text: one small tower each, and dense layers over both."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.bag_of_tokens import DenseStack, TokenPool, check_options
from aft_jax.students.layers.precision import compute_dtype
from aft_jax.students.small_cnn import small_cnn
from aft_jax.types import StudentOutput


class SmallPair(nn.Module):
    """3x3 convolutions with group norm beside pooled embeddings, dense layers, one linear head.

    Attributes:
        num_classes: k, the head's outputs.
        channels: of each convolution.
        strides: of each convolution.
        vocab_size: of the tokenizer.
        embedding: width of a token's embedding.
        widths: outputs of the dense layers; the last one is the feature width d.
        dropout: share of each dense layer's inputs that training drops.
        dtype: of the convolutions and dense layers.
    """

    num_classes: int
    channels: Sequence[int]
    strides: Sequence[int]
    vocab_size: int
    embedding: int
    widths: Sequence[int]
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], train: bool) -> StudentOutput:
        """Image [b, h, w, c], token ids and mask [b, l] -> logits [b, k] and features [b, d]."""
        x = inputs["image"]
        for channels, stride in zip(self.channels, self.strides, strict=True):
            x = nn.Conv(channels, (3, 3), strides=stride, use_bias=False, dtype=self.dtype)(x)
            x = nn.relu(nn.GroupNorm(num_groups=1)(x.astype(jnp.float32)))
        tokens = TokenPool(self.vocab_size, self.embedding, name="tokens")(inputs)
        both = jnp.concatenate([jnp.mean(x, axis=(1, 2)), tokens], axis=1)
        features = DenseStack(self.widths, self.dropout, self.dtype, name="dense")(both, train)
        return StudentOutput(nn.Dense(self.num_classes, name="head")(features), features)


def small_pair(
    num_classes: int,
    channels: Any,
    strides: Any,
    vocab_size: Any,
    embedding: Any,
    widths: Any,
    dropout: Any = 0.0,
    dtype: Any = "float32",
) -> SmallPair:
    """The module, its options checked.

    Args:
        num_classes: k, the head's outputs.
        channels: of each convolution.
        strides: of each convolution.
        vocab_size: of the tokenizer in `config.inputs.tokenizer`; 257 for "bytes".
        embedding: width of a token's embedding.
        widths: outputs of the dense layers.
        dropout: share of each dense layer's inputs that training drops.
        dtype: of the convolutions and dense layers, "float32", "bfloat16" or "float16".

    Returns:
        The module.

    Raises:
        ValueError: an option has another form than this.
    """
    check_options(vocab_size=vocab_size, embedding=embedding, widths=widths, dropout=dropout)
    try:
        small_cnn(num_classes, channels, strides)  # its rules are ours
    except ValueError as error:
        raise ValueError(f"channels and strides are those of small_cnn: {error}") from error
    return SmallPair(
        num_classes,
        tuple(channels),
        tuple(strides),
        vocab_size,
        embedding,
        tuple(widths),
        float(dropout),
        compute_dtype(dtype),
    )
