"""MLP-Mixer: patches that mix through MLPs alone.

Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.convolution import Patches
from aft_jax.students.layers.head import Classified
from aft_jax.students.layers.norm import LayerNorm
from aft_jax.students.layers.options import check_epsilon, check_flags, check_positive
from aft_jax.students.layers.precision import compute_dtype
from aft_jax.students.layers.transformer import Mlp, stack


class MixerBlock(nn.Module):
    """x + tokens(norm(x)^T)^T, then x + channels(norm(x)), both MLPs with GELU.

    Attributes:
        token_hidden: of the MLP along the tokens, the same for every channel.
        channel_hidden: of the MLP along the channels, the same for every token.
        epsilon: of the norms.
        dtype: of the products.
    """

    token_hidden: int
    channel_hidden: int
    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, None]:
        """[b, l, w] -> [b, l, w]; the second result is for the loop."""
        y = LayerNorm(self.epsilon, self.dtype, name="norm1")(x).swapaxes(1, 2)
        y = Mlp(self.token_hidden, "gelu", self.dtype, name="tokens")(y)
        x = x + y.swapaxes(1, 2)
        y = LayerNorm(self.epsilon, self.dtype, name="norm2")(x)
        return x + Mlp(self.channel_hidden, "gelu", self.dtype, name="channels")(y), None


class MixerTower(nn.Module):
    """Patches, mixer blocks, norm, mean: an image's features without a classifier.

    Attributes:
        image_size: side of the image, in pixels; the token mixing is tied to its number of patches.
        patch_size: side of a patch, in pixels.
        width: w of a token, and of the features.
        depth: blocks.
        token_hidden: see `MixerBlock`.
        channel_hidden: see `MixerBlock`.
        epsilon: of the norms.
        dtype: of the products.
        remat: see `stack`.
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    token_hidden: int
    channel_hidden: int
    epsilon: float
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, 3] images -> [b, w] features in float32."""
        if images.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(
                "a mixer has a weight for every pair of patches of images of "
                f"student.options.image_size, {self.image_size} pixels a side; got "
                f"{images.shape[1]} x {images.shape[2]}. Set config.inputs.image_size to the same."
            )
        x = Patches(self.width, self.patch_size, dtype=self.dtype, name="patches")(images)
        blocks = stack(MixerBlock, self.depth, self.remat, arguments=0)(
            token_hidden=self.token_hidden,
            channel_hidden=self.channel_hidden,
            epsilon=self.epsilon,
            dtype=self.dtype,
            name="blocks",
        )
        x, _ = blocks(x)
        return jnp.mean(LayerNorm(self.epsilon, jnp.float32, name="norm")(x), axis=1)


def mixer(
    num_classes: int,
    *,
    image_size: Any,
    patch_size: Any,
    width: Any,
    depth: Any,
    token_hidden: Any,
    channel_hidden: Any,
    epsilon: float = 1e-6,
    dtype: Any = "float32",
    remat: Any = False,
) -> Classified:
    """A mixer, its options checked.

    Args:
        num_classes: k, the head's outputs.
        image_size: side of the image, in pixels.
        patch_size: side of a patch, in pixels.
        width: w of a token, and of the features.
        depth: blocks.
        token_hidden: of the MLPs along the tokens.
        channel_hidden: of the MLPs along the channels.
        epsilon: of the norms.
        dtype: of the products, "float32", "bfloat16" or "float16".
        remat: see `stack`.

    Returns:
        The module.

    Raises:
        ValueError: an option has another form, or two contradict each other.
    """
    numbers = {"image_size": image_size, "patch_size": patch_size, "width": width, "depth": depth}
    numbers |= {"token_hidden": token_hidden, "channel_hidden": channel_hidden}
    check_epsilon(epsilon)
    check_positive(**numbers)
    check_flags(remat=remat)
    if image_size % patch_size:
        raise ValueError(
            f"image_size is a multiple of patch_size; got {image_size} and {patch_size}. Take "
            f"{image_size // patch_size * patch_size or patch_size} or "
            f"{(image_size // patch_size + 1) * patch_size}"
        )
    tower = MixerTower(**numbers, epsilon=epsilon, dtype=compute_dtype(dtype), remat=remat)
    return Classified(num_classes, tower)
