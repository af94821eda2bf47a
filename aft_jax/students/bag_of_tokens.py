"""A small network for text that reads its tokens without their order."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.dense import Dense
from aft_jax.students.layers.options import check_positive, check_share
from aft_jax.students.layers.precision import compute_dtype
from aft_jax.types import StudentOutput


class TokenPool(nn.Module):
    """Mean and maximum of the tokens' embeddings, padding left out.

    Attributes:
        vocab_size: ids are smaller; any other gives NaN.
        embedding: width e of an embedding.
    """

    vocab_size: int
    embedding: int

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array]) -> jax.Array:
        """Token ids and mask [b, l] -> [b, 2 e]; zeros for a text without tokens."""
        x = nn.Embed(self.vocab_size, self.embedding)(inputs["input_ids"])
        real = inputs["attention_mask"][..., None] > 0
        count = jnp.sum(real, axis=1, dtype=x.dtype)  # [b, 1]
        mean = jnp.sum(jnp.where(real, x, 0), axis=1) / jnp.maximum(count, 1)
        lowest = jnp.finfo(x.dtype).min  # not -inf, whose product with a zero gradient is NaN
        largest = jnp.max(jnp.where(real, x, lowest), axis=1)
        return jnp.concatenate([mean, jnp.where(count > 0, largest, 0)], axis=1)


class DenseStack(nn.Module):
    """Dense layers with ReLU and dropout between them.

    Attributes:
        widths: outputs of each layer.
        dropout: share of each layer's inputs that training drops.
        dtype: of the products.
    """

    widths: Sequence[int]
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[b, ...] -> [b, d] in float32, d the last width."""
        for width in self.widths:
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = nn.relu(Dense(width, self.dtype, kernel_init=nn.initializers.lecun_normal())(x))
        return x.astype(jnp.float32)


class BagOfTokens(nn.Module):
    """Embedding, masked mean and maximum, dense layers, one linear head.

    Attributes:
        num_classes: k, the head's outputs.
        vocab_size: of the tokenizer.
        embedding: width of a token's embedding.
        widths: outputs of the dense layers; the last one is the feature width d.
        dropout: share of each dense layer's inputs that training drops.
        dtype: of the dense layers.
    """

    num_classes: int
    vocab_size: int
    embedding: int
    widths: Sequence[int]
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], train: bool) -> StudentOutput:
        """Token ids and mask [b, l] -> logits [b, k] and features [b, d]."""
        pooled = TokenPool(self.vocab_size, self.embedding, name="tokens")(inputs)
        layers = DenseStack(self.widths, self.dropout, self.dtype, name="dense")
        features = layers(pooled, train)
        return StudentOutput(nn.Dense(self.num_classes, name="head")(features), features)


def bag_of_tokens(
    num_classes: int,
    vocab_size: Any,
    embedding: Any,
    widths: Any,
    dropout: Any = 0.0,
    dtype: Any = "float32",
) -> BagOfTokens:
    """The module, its options checked.

    Args:
        num_classes: k, the head's outputs.
        vocab_size: of the tokenizer in `config.inputs.tokenizer`; 257 for "bytes".
        embedding: width of a token's embedding.
        widths: outputs of the dense layers.
        dropout: share of each dense layer's inputs that training drops.
        dtype: of the dense layers, "float32", "bfloat16" or "float16".

    Returns:
        The module.

    Raises:
        ValueError: an option has another form than this.
    """
    check_options(vocab_size=vocab_size, embedding=embedding, widths=widths, dropout=dropout)
    return BagOfTokens(
        num_classes, vocab_size, embedding, tuple(widths), float(dropout), compute_dtype(dtype)
    )


def check_options(*, vocab_size: Any, embedding: Any, widths: Any, dropout: Any) -> None:
    """Checks the options that students which read tokens share.

    Args:
        vocab_size: a positive integer.
        embedding: a positive integer.
        widths: a list of positive integers, not empty.
        dropout: at least 0 and less than 1.

    Raises:
        ValueError: one of them is something else.
    """
    check_positive(vocab_size=vocab_size, embedding=embedding)
    if not isinstance(widths, list | tuple) or not widths:
        raise ValueError(f"widths is a list with a number for each dense layer; got {widths!r}")
    if not all(type(value) is int and value > 0 for value in widths):
        raise ValueError(f"widths are positive integers; got {widths!r}")
    check_share("dropout", dropout)
