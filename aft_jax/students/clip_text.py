"""CLIP's text tower: a causal transformer read at the end of each text.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", arXiv
2103.00020, section 2.4.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.dense import INIT
from aft_jax.students.layers.norm import LayerNorm
from aft_jax.students.layers.options import check_choice, check_epsilon, check_heads, check_positive
from aft_jax.students.layers.precision import compute_dtype
from aft_jax.students.layers.transformer import ACTIVATIONS, Block, stack


class TextTower(nn.Module):
    """Tokens, positions, causal blocks, and the norm of the last real token.

    That token is the tokenizer's end-of-text token, which the published code finds as the largest
    id of a text.

    Attributes:
        vocab_size: ids are smaller; a larger one gives NaN.
        positions: tokens that a text may have.
        width: w of a token.
        depth: blocks.
        heads: of each attention.
        hidden: of each MLP.
        activation: of each MLP, see `ACTIVATIONS`.
        epsilon: of the norms.
        dtype: of the products.
        remat: see `stack`.
    """

    vocab_size: int
    positions: int
    width: int
    depth: int
    heads: int
    hidden: int
    activation: str
    epsilon: float
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array]) -> jax.Array:
        """Token ids and mask [b, l], padding on the right -> [b, w] features in float32.

        A text without tokens is read as one with the first token of the vocabulary.
        """
        real = inputs["attention_mask"] > 0
        self._check_length(real.shape[1])
        x = self._embedded(jnp.where(real, inputs["input_ids"], 0))
        blocks = stack(Block, self.depth, self.remat, arguments=1)(
            heads=self.heads,
            hidden=self.hidden,
            activation=self.activation,
            epsilon=self.epsilon,
            layer_scale=False,
            causal=True,
            dtype=self.dtype,
            name="blocks",
        )
        x, _ = blocks(x, None)  # no real token sees padding: it comes later
        end = jnp.maximum(jnp.sum(real, axis=1, dtype=jnp.int32) - 1, 0)
        x = jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]
        return LayerNorm(self.epsilon, jnp.float32, name="norm")(x)

    def _check_length(self, length: int) -> None:
        if length > self.positions:
            raise ValueError(
                "a text tower has positions for student.options.text.positions tokens, "
                f"{self.positions}; got texts of {length}. Set config.inputs.max_length to "
                f"{self.positions} or less."
            )

    def _embedded(self, ids: jax.Array) -> jax.Array:
        """[b, l] -> [b, l, w], positions added."""
        tokens = nn.Embed(self.vocab_size, self.width, embedding_init=INIT, name="tokens")(ids)
        table = nn.Embed(self.positions, self.width, embedding_init=INIT, name="positions")
        return (tokens + table(jnp.arange(ids.shape[1]))[None]).astype(self.dtype)


def text_tower(
    *,
    vocab_size: Any,
    width: Any,
    depth: Any,
    heads: Any,
    hidden: Any,
    positions: Any = 77,
    activation: Any = "quick_gelu",
    epsilon: float = 1e-5,
    dtype: Any = "float32",
    remat: Any = False,
) -> TextTower:
    """The tower, its options checked; they are the attributes of `TextTower`.

    Raises:
        ValueError: an option has another form, or two contradict each other.
    """
    numbers = {"vocab_size": vocab_size, "positions": positions, "width": width}
    numbers |= {"depth": depth, "heads": heads, "hidden": hidden}
    check_epsilon(epsilon)
    check_positive(**numbers)
    check_heads(width, heads)
    check_choice("activation", activation, ACTIVATIONS)
    return TextTower(
        **numbers,
        activation=activation,
        epsilon=epsilon,
        dtype=compute_dtype(dtype),
        remat=remat,
    )
