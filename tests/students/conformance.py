"""One small student of every kind, and what it reads: the cases of the conformance test."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aft_jax.students import from_linen, from_nnx, make_student
from aft_jax.types import Student

CLASSES = 3
ROWS = 4
BATCH_NORM = ("resnet", "mobilenet_v4", "clip_resnet", "linen", "nnx")
"""Cases whose statistics tie the rows of a batch together in training."""


class LinenModule(nn.Module):
    """Anyone's linen module: batch norm and dropout, a plain pair out."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(6, (3, 3))(images)
        x = nn.BatchNorm(use_running_average=not train)(x)
        features = jnp.mean(nn.tanh(x), axis=(1, 2))
        dropped = nn.Dropout(0.5, deterministic=not train)(features)
        return nn.Dense(self.num_classes, name="head")(dropped), features


class NnxModule(nnx.Module):
    """Anyone's NNX module: a list of layers, batch norm and dropout."""

    def __init__(self, num_classes: int, rngs: nnx.Rngs):
        self.convolutions = nnx.List(
            [nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Conv(4, 6, (3, 3), rngs=rngs)]
        )
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(6, num_classes, rngs=rngs)

    def __call__(self, images):
        x = images
        for convolution in self.convolutions:
            x = nnx.tanh(convolution(x))
        features = jnp.mean(nnx.tanh(self.norm(x)), axis=(1, 2))
        return self.head(self.dropout(features)), features


class Case(NamedTuple):
    """A student to be tested.

    Attributes:
        make: options over those of the case -> the student.
        inputs: rows -> what it reads.
        widths: of its features; several for factors of a product.
    """

    make: Callable[..., Student]
    inputs: Callable[[int], Any]
    widths: tuple[int, ...]


def images(rows: int, size: int = 16) -> jax.Array:
    return jax.random.uniform(jax.random.key(0), (rows, size, size, 3), minval=-1.0)


def text(rows: int) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    lengths = np.arange(rows) % 5 + 3
    mask = (np.arange(8)[None] < lengths[:, None]).astype(np.int32)
    ids = rng.integers(1, 20, (rows, 8)).astype(np.int32) * mask
    return {"input_ids": jnp.asarray(ids), "attention_mask": jnp.asarray(mask)}


def pairs(rows: int, size: int = 16) -> dict[str, jax.Array]:
    return {"image": images(rows, size), **text(rows)}


WORDS = {"vocab_size": 20, "width": 8, "depth": 2, "heads": 2, "hidden": 12, "positions": 8}
TOWER = {
    **{"image_size": 16, "patch_size": 8, "width": 8, "depth": 2, "heads": 2, "hidden": 12},
}
VIT = TOWER | {"registers": 1, "layer_scale": True}
MODIFIED = {"kind": "resnet", "image_size": 32, "depths": (1, 1, 1, 1), "width": 4, "heads": 2}
RESIDUAL = {"depths": (2, 1), "width": 4, "stem_width": 4}
MIXER = {
    **{"image_size": 16, "patch_size": 8, "width": 8, "depth": 2},
    **{"token_hidden": 6, "channel_hidden": 12},
}
UNIVERSAL = {"kind": "universal", "start": 3, "middle": 3, "expansion": 2, "channels": 6}
MOBILE = (
    ({"kind": "convolution", "kernel": 3, "stride": 2, "channels": 4},),
    ({"kind": "fused", "kernel": 3, "stride": 1, "expansion": 2, "channels": 4},),
    (UNIVERSAL | {"stride": 2}, UNIVERSAL | {"stride": 1, "start": 0}),
    ({"kind": "convolution", "kernel": 1, "stride": 1, "channels": 8},),
)
BAG = {"vocab_size": 20, "embedding": 4, "widths": (6,), "dropout": 0.1}
OPTIONS: Mapping[str, tuple[str, Mapping[str, Any], Callable[[int], Any], tuple[int, ...]]] = {
    "small_cnn": ("small_cnn", {"widths": (4, 6), "strides": (1, 2)}, images, (6,)),
    "bag_of_tokens": ("bag_of_tokens", BAG, text, (6,)),
    "small_pair": ("small_pair", {"channels": (4,), "strides": (2,)} | BAG, pairs, (6,)),
    "vit": ("vit", VIT, images, (8,)),
    "vit_map": ("vit", VIT | {"class_token": False, "pooling": "map"}, images, (8,)),
    "resnet": (
        "resnet",
        RESIDUAL | {"block": "bottleneck", "zero_init_last": False},
        images,
        (32,),
    ),
    "resnet_v2": ("resnet_v2", RESIDUAL | {"groups": 2}, images, (32,)),
    "mixer": ("mixer", MIXER, images, (8,)),
    "mobilenet_v4": ("mobilenet_v4", {"stem": 4, "blocks": MOBILE, "head_width": 6}, images, (6,)),
    "bert": ("bert", WORDS, text, (8,)),
    "distilbert": ("bert", WORDS | {"token_types": 0, "pooler": "relu"}, text, (8,)),
    "clip": (
        "clip",
        {"image": {"kind": "vit"} | TOWER, "text": WORDS, "projection": 4},
        pairs,
        (4, 4),
    ),
    "clip_resnet": (
        "clip",
        {"image": MODIFIED, "text": WORDS, "projection": 4},
        lambda rows: pairs(rows, size=32),
        (4, 4),
    ),
}
"""Case -> architecture, options, inputs and feature widths."""


def _case(name: str) -> Case:
    student, options, inputs, widths = OPTIONS[name]

    def make(**changes: Any) -> Student:
        return make_student(student, CLASSES, {**options, **changes})

    return Case(make, inputs, widths)


CASES: Mapping[str, Case] = {name: _case(name) for name in OPTIONS} | {
    "linen": Case(lambda: from_linen(LinenModule(CLASSES)), images, (6,)),
    "nnx": Case(lambda: from_nnx(lambda rngs: NnxModule(CLASSES, rngs)), images, (6,)),
}
