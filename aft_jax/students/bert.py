"""BERT of any size, and DistilBERT: post-norm text encoders.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
arXiv 1810.04805; Sanh et al., "DistilBERT, a distilled version of BERT", arXiv 1910.01108.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.attention import SelfAttention
from aft_jax.students.layers.dense import INIT
from aft_jax.students.layers.head import classifier
from aft_jax.students.layers.norm import LayerNorm
from aft_jax.students.layers.options import (
    check_choice,
    check_epsilon,
    check_flags,
    check_heads,
    check_positive,
    check_share,
)
from aft_jax.students.layers.precision import compute_dtype
from aft_jax.students.layers.projection import Projection
from aft_jax.students.layers.transformer import ACTIVATIONS, Mlp, stack
from aft_jax.types import StudentOutput

POOLERS: Mapping[str, Callable[[jax.Array], jax.Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}
"""What follows the linear map of the first token: tanh in BERT, ReLU in DistilBERT."""


class Embeddings(nn.Module):
    """norm(token + position + segment), summed in float32.

    Attributes:
        vocab_size: ids are smaller; any other gives NaN.
        width: w of a token.
        positions: texts are at most so long.
        token_types: segments that a text may have; 0 for none.
        epsilon: of the norm.
        dtype: of the result.
    """

    vocab_size: int
    width: int
    positions: int
    token_types: int
    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array]) -> jax.Array:
        """Ids and, where there are any, segments, both [b, l] -> [b, l, w]."""
        ids = inputs["input_ids"]
        length = ids.shape[1]
        if length > self.positions:
            raise ValueError(
                f"this student has positions for texts of {self.positions} tokens at most; got "
                f"{length}. Set config.inputs.max_length, and the last of config.inputs.buckets, "
                f"to {self.positions} or less."
            )
        # The tables stay in float32: a copy of the vocabulary's in another dtype costs more than
        # the rows that a batch reads.
        x = self._table(self.vocab_size, "tokens")(ids)
        x = x + self._table(self.positions, "positions")(jnp.arange(length))[None]
        if self.token_types:
            types = inputs["token_type_ids"] if "token_type_ids" in inputs else jnp.zeros_like(ids)
            x = x + self._table(self.token_types, "types")(types)
        return LayerNorm(self.epsilon, self.dtype, name="norm")(x)

    def _table(self, rows: int, name: str) -> nn.Embed:
        return nn.Embed(rows, self.width, embedding_init=INIT, name=name)


class PostNormBlock(nn.Module):
    """norm(x + dropout(attention(x))), then norm(x + dropout(mlp(x))).

    Attributes:
        heads: of the attention.
        hidden: of the MLP.
        activation: of the MLP, see `ACTIVATIONS`.
        epsilon: of the norms.
        dropout: share of either branch that training drops.
        train: whether it does.
        dtype: of the products.
    """

    heads: int
    hidden: int
    activation: str
    epsilon: float
    dropout: float
    train: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
        """[b, l, w] -> [b, l, w]; the second result is for the loop."""
        y = SelfAttention(self.heads, False, self.dtype, name="attention")(x, mask)
        x = LayerNorm(self.epsilon, self.dtype, name="norm1")(x + self._dropped(y))
        y = Mlp(self.hidden, self.activation, self.dtype, name="mlp")(x)
        return LayerNorm(self.epsilon, self.dtype, name="norm2")(x + self._dropped(y)), None

    def _dropped(self, y: jax.Array) -> jax.Array:
        return nn.Dropout(self.dropout, deterministic=not self.train)(y)


class TextTower(nn.Module):
    """Embeddings, post-norm blocks, pooler: a text's features without a classifier.

    Attributes:
        vocab_size: see `Embeddings`.
        width: w of a token, and of the features.
        depth: blocks.
        heads: of each attention.
        hidden: of each MLP.
        positions: see `Embeddings`.
        token_types: see `Embeddings`.
        activation: of each MLP.
        epsilon: of the norms.
        pooler: a key of `POOLERS`.
        dropout: share that training drops of the embeddings and of every branch of a block.
        dtype: of the products.
        remat: see `stack`.
    """

    vocab_size: int
    width: int
    depth: int
    heads: int
    hidden: int
    positions: int
    token_types: int
    activation: str
    epsilon: float
    pooler: str
    dropout: float
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], train: bool) -> jax.Array:
        """Ids, mask and perhaps segments, each [b, l] -> [b, w] features in float32."""
        embeddings = Embeddings(
            self.vocab_size,
            self.width,
            self.positions,
            self.token_types,
            self.epsilon,
            self.dtype,
            name="embeddings",
        )
        x = nn.Dropout(self.dropout, deterministic=not train)(embeddings(inputs))
        blocks = stack(PostNormBlock, self.depth, self.remat, arguments=1)(
            heads=self.heads,
            hidden=self.hidden,
            activation=self.activation,
            epsilon=self.epsilon,
            dropout=self.dropout,
            train=train,
            dtype=self.dtype,
            name="blocks",
        )
        x, _ = blocks(x, inputs["attention_mask"] > 0)
        pooler = Projection(self.width, True, self.dtype, name="pooler")
        return POOLERS[self.pooler](pooler(x[:, 0]))


class Bert(nn.Module):
    """A text tower and a linear classifier.

    In training, dropout falls on the embeddings, on what attention and MLP of each block add, and
    on what the classifier reads. The features that are returned are those before this last one:
    what a loss compares should not be half noise. Nothing drops attention probabilities: fused
    attention never holds them.

    Attributes:
        num_classes: k.
        dropout: share that training drops of what the classifier reads.
        tower: makes the features.
    """

    num_classes: int
    dropout: float
    tower: TextTower

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], train: bool) -> StudentOutput:
        """Texts -> logits [b, k] and features [b, w].

        Args:
            inputs: "input_ids" [b, l], "attention_mask" [b, l], 1 for a token and 0 for padding
                to its right, and where texts have segments "token_type_ids" [b, l]; a model
                without them ignores those.
            train: whether parts drop out, by the random stream "dropout".

        Returns:
            The classes' logits and what the classifier reads, without dropout.
        """
        features = self.tower(inputs, train)
        dropped = nn.Dropout(self.dropout, deterministic=not train)(features)
        return StudentOutput(classifier(self.num_classes)(dropped), features)


def bert(
    num_classes: int,
    *,
    vocab_size: Any,
    width: Any,
    depth: Any,
    heads: Any,
    hidden: Any,
    positions: Any = 512,
    token_types: Any = 2,
    activation: Any = "gelu",
    epsilon: float = 1e-12,
    pooler: Any = "tanh",
    dropout: Any = 0.1,
    dtype: Any = "float32",
    remat: Any = False,
) -> Bert:
    """BERT, its options checked.

    Args:
        num_classes: k, the head's outputs.
        vocab_size: of the tokenizer in `config.inputs.tokenizer`.
        width: w of a token, and of the features.
        depth: blocks.
        heads: of each attention.
        hidden: of each MLP.
        positions: tokens of the longest text.
        token_types: segments that a text may have; 0 for a model that knows none.
        activation: of each MLP, see `ACTIVATIONS`.
        epsilon: of the norms.
        pooler: see `POOLERS`.
        dropout: see `Bert`.
        dtype: of the products, "float32", "bfloat16" or "float16".
        remat: see `stack`.

    Returns:
        The module.

    Raises:
        ValueError: an option has another form, or two contradict each other.
    """
    numbers = {"vocab_size": vocab_size, "width": width, "depth": depth, "heads": heads}
    numbers |= {"hidden": hidden, "positions": positions}
    check_epsilon(epsilon)
    check_positive(**numbers)
    check_heads(width, heads)
    check_flags(remat=remat)
    check_choice("activation", activation, ACTIVATIONS)
    check_choice("pooler", pooler, POOLERS)
    check_share("dropout", dropout)
    if type(token_types) is not int or token_types < 0:
        raise ValueError(f"token_types is an integer, at least 0; got {token_types!r}")
    tower = TextTower(
        **numbers,
        token_types=token_types,
        activation=activation,
        epsilon=epsilon,
        pooler=pooler,
        dropout=float(dropout),
        dtype=compute_dtype(dtype),
        remat=remat,
    )
    return Bert(num_classes, tower.dropout, tower)
