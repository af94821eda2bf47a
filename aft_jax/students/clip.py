"""CLIP with both towers: a student that reads an image and a text.

Its features are the outer product of the two embeddings, as in the student that Qiu et al., arXiv
2406.07337, train on SNLI-VE; p x p numbers a row, which neither the loss nor the classifier needs
to build. CLIP: Radford et al., arXiv 2103.00020.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from aft_jax.students.clip_resnet import ModifiedResNet, modified_resnet
from aft_jax.students.clip_text import TextTower, text_tower
from aft_jax.students.layers.bilinear import pair_classifier
from aft_jax.students.layers.options import check_choice, check_flags, check_positive
from aft_jax.students.layers.precision import compute_dtype
from aft_jax.students.layers.projection import Projection
from aft_jax.students.vit import VisionTower, vision_tower
from aft_jax.types import StudentOutput

_OF_CLIP = {"pre_norm": True, "patch_bias": False, "activation": "quick_gelu", "epsilon": 1e-5}


def _clip_vision_tower(**options: Any) -> VisionTower:
    return vision_tower(**_OF_CLIP | options)


IMAGE_TOWERS: Mapping[str, Callable[..., nn.Module]] = {
    "vit": _clip_vision_tower,
    "resnet": modified_resnet,
}
"""Kind of an image tower -> function of its options."""


class TwoTowers(nn.Module):
    """An image and a text, each as p numbers, not normalised.

    Attributes:
        image: tower of the image.
        text: tower of the text.
        projection: p.
        dtype: of the products.
    """

    image: VisionTower | ModifiedResNet
    text: TextTower
    projection: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], train: bool) -> dict[str, jax.Array]:
        """Image [b, h, w, 3], token ids and mask [b, l] -> embeddings [b, p] in float32."""
        if isinstance(self.image, ModifiedResNet):
            image = self.image(inputs["image"], train)  # its attention ends in a projection
        else:
            image = self._projected("image", self.image(inputs["image"], train))
        return {"image": image, "text": self._projected("text", self.text(inputs))}

    def _projected(self, name: str, x: jax.Array) -> jax.Array:
        return Projection(self.projection, False, self.dtype, name=f"{name}_projection")(x)


class Clip(nn.Module):
    """Two towers, and a linear classifier of the outer product of what they give.

    Attributes:
        num_classes: k.
        tower: makes both embeddings.
    """

    num_classes: int
    tower: TwoTowers

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array], train: bool) -> StudentOutput:
        """Inputs of `TwoTowers` -> logits [b, k], and features as two factors [b, p]."""
        features = self.tower(inputs, train)
        logits = pair_classifier(self.num_classes)(features["image"], features["text"])
        return StudentOutput(logits, features)


def clip(
    num_classes: int,
    *,
    image: Any,
    text: Any,
    projection: Any = 512,
    dtype: Any = "float32",
    remat: Any = False,
) -> Clip:
    """CLIP with a classifier of the outer product of its embeddings.

    Args:
        num_classes: k, the head's outputs.
        image: "kind", "vit" or "resnet", and the arguments of `vision_tower`, with CLIP's defaults,
            or of `modified_resnet`; but for those that stand below.
        text: arguments of `text_tower`, but for those that stand below.
        projection: p, width of both embeddings.
        dtype: of the products.
        remat: whether activations inside a block are computed again for the gradient.

    Returns:
        The module.

    Raises:
        ValueError: an option has another form, or two contradict each other.
    """
    for name, value in {"image": image, "text": text}.items():
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is a mapping with the options of a tower; got {value!r}")
    check_positive(projection=projection)
    check_flags(remat=remat)
    options = dict(image)
    kind = options.pop("kind", None)
    check_choice("image.kind", kind, IMAGE_TOWERS)
    shared = {"dtype": dtype, "remat": remat}
    last = {"output": projection} if kind == "resnet" else {}
    towers = {
        "image": _tower("image", IMAGE_TOWERS[kind], options, shared | last),
        "text": _tower("text", text_tower, text, shared),
    }
    return Clip(num_classes, TwoTowers(**towers, projection=projection, dtype=compute_dtype(dtype)))


def _tower(
    name: str,
    make: Callable[..., nn.Module],
    options: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> Any:
    """The tower; what is wrong with its options is said of the option that holds them."""
    try:
        return make(**options, **shared)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error
