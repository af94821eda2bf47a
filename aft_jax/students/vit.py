"""Vision transformers: ViT of any size, with what DINOv2, CLIP and SigLIP add to it.

Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv 2010.11929; registers: Darcet et al.,
arXiv 2309.16588; layer scale: Touvron et al., arXiv 2103.17239; attention pooling: Zhai et al.,
arXiv 2106.04560.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aft_jax.students.layers.attention import attend
from aft_jax.students.layers.convolution import Patches
from aft_jax.students.layers.dense import INIT, Dense
from aft_jax.students.layers.head import Classified
from aft_jax.students.layers.norm import LayerNorm
from aft_jax.students.layers.options import (
    check_choice,
    check_epsilon,
    check_flags,
    check_heads,
    check_positive,
)
from aft_jax.students.layers.precision import compute_dtype, plus
from aft_jax.students.layers.transformer import ACTIVATIONS, Block, Mlp, stack

POOLINGS = ("cls", "mean", "cls_mean", "map")


class ProbeAttention(nn.Module):
    """One learned query attends to the tokens.

    Attributes:
        heads: of the attention.
        dtype: of the products.
    """

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, probe: jax.Array, x: jax.Array) -> jax.Array:
        """Query [b, 1, w] and tokens [b, l, w] -> [b, 1, heads, w / heads]."""
        width, shape = x.shape[-1], (3, self.heads, x.shape[-1] // self.heads)
        kernel = self.param("kernel", INIT, (width, *shape)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, shape)
        query = plus(jnp.einsum("blw,whd->blhd", probe, kernel[:, 0]), bias[0])
        both = plus(jnp.einsum("blw,wphd->blphd", x, kernel[:, 1:]), bias[1:])
        return attend(query, both[:, :, 0], both[:, :, 1])


class AttentionPool(nn.Module):
    """Multi-head attention pooling: y = W attention(probe, x), then y + mlp(norm(y)).

    Attributes:
        heads: of the attention.
        hidden: of the MLP.
        activation: of the MLP.
        epsilon: of the norm.
        dtype: of the products.
    """

    heads: int
    hidden: int
    activation: str
    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, l, w] -> [b, w] in float32."""
        batch, _, width = x.shape
        probe = jnp.broadcast_to(self.param("probe", INIT, (width,)), (batch, 1, width))
        probe, x = probe.astype(self.dtype), x.astype(self.dtype)
        y = ProbeAttention(self.heads, self.dtype, name="qkv")(probe, x).reshape(batch, width)
        y = Dense(width, self.dtype, name="out")(y)
        inner = LayerNorm(self.epsilon, self.dtype, name="norm")(y)
        inner = Mlp(self.hidden, self.activation, self.dtype, name="mlp")(inner)
        return y.astype(jnp.float32) + inner.astype(jnp.float32)


class VisionTower(nn.Module):
    """Patches, positions, transformer blocks, pooling: an image's features without a classifier.

    Attributes:
        image_size: side of the image, in pixels; what is left over beside whole patches is cut off
            at the right and at the bottom.
        patch_size: side of a patch, in pixels.
        width: w of a token.
        depth: blocks.
        heads: of each attention.
        hidden: of each MLP.
        activation: of each MLP, see `ACTIVATIONS`.
        epsilon: of the norms.
        class_token: whether a learned token goes in front.
        class_position: whether it has a position of its own.
        registers: further learned tokens, without positions.
        layer_scale: see `Block`.
        pre_norm: whether tokens are normalised before the first block, as in CLIP.
        patch_bias: whether the patch embedding has one.
        pooling: "cls", the class token; "mean" of the patches, normalised after it; "cls_mean", the
            class token and the mean of the normalised patches side by side; "map", attention.
        dtype: of the products.
        remat: see `stack`.
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    hidden: int
    activation: str
    epsilon: float
    class_token: bool
    class_position: bool
    registers: int
    layer_scale: bool
    pre_norm: bool
    patch_bias: bool
    pooling: str
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, 3] images -> [b, d] features in float32."""
        self._check_size(images)
        x = self._tokens(images.astype(self.dtype))
        if self.pre_norm:
            x = LayerNorm(self.epsilon, self.dtype, name="pre_norm")(x)
        blocks = stack(Block, self.depth, self.remat, arguments=1)(
            heads=self.heads,
            hidden=self.hidden,
            activation=self.activation,
            epsilon=self.epsilon,
            layer_scale=self.layer_scale,
            causal=False,
            dtype=self.dtype,
            name="blocks",
        )
        x, _ = blocks(x, None)
        return self._pooled(x)

    def _check_size(self, images: jax.Array) -> None:
        if images.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(
                "a vision transformer has a position for every patch of images of "
                f"student.options.image_size, {self.image_size} pixels a side; got "
                f"{images.shape[1]} x {images.shape[2]}. Set config.inputs.image_size to the same."
            )

    def _tokens(self, images: jax.Array) -> jax.Array:
        """[b, h, w, 3] -> [b, prefix + patches, w], positions added."""
        side = self.image_size // self.patch_size * self.patch_size
        images = images[:, :side, :side]
        x = Patches(self.width, self.patch_size, self.patch_bias, self.dtype, name="patches")(
            images
        )
        extra = int(self.class_token and self.class_position)
        positions = self.param("positions", INIT, (x.shape[1] + extra, self.width))
        x = plus(x, positions[extra:])
        prefix = []
        if self.class_token:
            token = self.param("class_token", INIT, (self.width,))[None]
            prefix.append(token + positions[:1] if extra else token)
        if self.registers:
            prefix.append(self.param("registers", INIT, (self.registers, self.width)))
        # Spread over the rows before they are rounded, so that gradients are summed in float32.
        rows = [jnp.broadcast_to(part[None], (len(x), *part.shape)) for part in prefix]
        return jnp.concatenate([*(part.astype(x.dtype) for part in rows), x], axis=1)

    def _pooled(self, x: jax.Array) -> jax.Array:
        """[b, prefix + patches, w] -> [b, d] in float32."""
        patches = int(self.class_token) + self.registers
        if self.pooling == "mean":
            mean = jnp.mean(x[:, patches:].astype(jnp.float32), axis=1)
            return LayerNorm(self.epsilon, jnp.float32, name="pooled_norm")(mean)
        norm = LayerNorm(self.epsilon, jnp.float32, name="norm")
        if self.pooling == "cls":
            return norm(x[:, 0])
        x = norm(x)
        if self.pooling == "cls_mean":
            return jnp.concatenate([x[:, 0], jnp.mean(x[:, patches:], axis=1)], axis=1)
        pool = AttentionPool(
            self.heads, self.hidden, self.activation, self.epsilon, self.dtype, name="pool"
        )
        return pool(x)


def vision_tower(
    *,
    image_size: Any,
    patch_size: Any,
    width: Any,
    depth: Any,
    heads: Any,
    hidden: Any,
    activation: Any = "gelu",
    epsilon: float = 1e-6,
    class_token: Any = True,
    class_position: Any = True,
    registers: Any = 0,
    layer_scale: Any = False,
    pre_norm: Any = False,
    patch_bias: Any = True,
    pooling: Any = "cls",
    dtype: Any = "float32",
    remat: Any = False,
) -> VisionTower:
    """The tower, its options checked; they are the attributes of `VisionTower`.

    Raises:
        ValueError: an option has another form, or two contradict each other.
    """
    check_epsilon(epsilon)
    numbers = {"image_size": image_size, "patch_size": patch_size, "width": width}
    numbers |= {"depth": depth, "heads": heads, "hidden": hidden}
    flags = {"class_token": class_token, "class_position": class_position, "remat": remat}
    flags |= {"layer_scale": layer_scale, "pre_norm": pre_norm, "patch_bias": patch_bias}
    check_positive(**numbers)
    check_flags(**flags)
    check_heads(width, heads)
    check_choice("activation", activation, ACTIVATIONS)
    check_choice("pooling", pooling, POOLINGS)
    if type(registers) is not int or registers < 0:
        raise ValueError(f"registers is an integer, at least 0; got {registers!r}")
    if image_size < patch_size:
        raise ValueError(f"image_size is at least patch_size; got {image_size} and {patch_size}")
    if pooling in ("cls", "cls_mean") and not class_token:
        raise ValueError(f"pooling without a class token is 'mean' or 'map'; got {pooling!r}")
    return VisionTower(
        **numbers,
        **flags,
        activation=activation,
        epsilon=epsilon,
        registers=registers,
        pooling=pooling,
        dtype=compute_dtype(dtype),
    )


def vit(num_classes: int, **options: Any) -> Classified:
    """A vision transformer.

    Args:
        num_classes: k, the head's outputs.
        **options: the arguments of `vision_tower`.

    Returns:
        The module.

    Raises:
        ValueError: an option has another form, or two contradict each other.
    """
    return Classified(num_classes, vision_tower(**options))
