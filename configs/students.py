"""The students that configs name: architecture, public weights, learning rate, and what they read.

Learning rates of the paper: 1e-4 for ViT-S and Mixer-B, 1e-3 for ResNet-50. The published code
names none for the others; theirs are common ones for fine-tuning, with room for `compare` on tune.
"""

from collections.abc import Mapping
from typing import Any

from aft_jax.config.defaults import IMAGENET_MEAN, IMAGENET_STD
from aft_jax.errors import ConfigError

IMAGENET = {"image_fit": "crop", "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
HALF = {"image_fit": "crop", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
CLIP = {
    "image_fit": "crop",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
BERT_TOKENIZER, BERT_VOCABULARY = "distilbert/distilbert-base-uncased", 30522


def public(name: str, weights: str, rate: float, **inputs: Any) -> dict[str, Any]:
    """A student that starts from public weights.

    Args:
        name: architecture.
        weights: hub id.
        rate: peak learning rate.
        **inputs: keys of `config.inputs` that belong to the weights.

    Returns:
        What `set_student` reads.
    """
    student = {"name": name, "pretrained": weights, "options": {}}
    return {"student": student, "rate": rate, "inputs": inputs}


def random(name: str, options: Mapping[str, Any], **inputs: Any) -> dict[str, Any]:
    """A student that starts from random weights, at the learning rate 1e-3.

    Args:
        name: architecture.
        options: of the architecture.
        **inputs: keys of `config.inputs`.

    Returns:
        What `set_student` reads.
    """
    student = {"name": name, "pretrained": "", "options": dict(options)}
    return {"student": student, "rate": 1e-3, "inputs": inputs}


CONVOLUTIONS = {"widths": (64, 128, 256, 512), "strides": (2, 2, 2, 2)}
BAG = {"vocab_size": BERT_VOCABULARY, "embedding": 256, "widths": (512, 512), "dropout": 0.1}
TOWERS = {"channels": CONVOLUTIONS["widths"], "strides": CONVOLUTIONS["strides"]}

VISION_STUDENTS: Mapping[str, Mapping[str, Any]] = {
    "vit_s": public("vit", "timm/vit_small_patch16_224.augreg_in1k", 1e-4, **HALF),
    "mixer_b": public("mixer", "timm/mixer_b16_224.goog_in21k_ft_in1k", 1e-4, **HALF),
    "resnet50": public("resnet", "timm/resnet50.a1_in1k", 1e-3, **IMAGENET),
    "bit_50x1": public("resnet_v2", "timm/resnetv2_50x1_bit.goog_in21k", 1e-3, **HALF),
    "dinov2_s": public("vit", "facebook/dinov2-small", 1e-4, **IMAGENET),
    "mobilenet_v4_s": public(
        "mobilenet_v4", "timm/mobilenetv4_conv_small.e2400_r224_in1k", 1e-3, **IMAGENET
    ),
    "small_cnn": random("small_cnn", CONVOLUTIONS, image_size=64),
}
TEXT_STUDENTS: Mapping[str, Mapping[str, Any]] = {
    "bert_small": public(
        "bert", "prajjwal1/bert-small", 1e-4, tokenizer="google-bert/bert-base-uncased"
    ),
    "distilbert": public("bert", BERT_TOKENIZER, 5e-5, tokenizer=BERT_TOKENIZER),
    "bag_of_tokens": random("bag_of_tokens", BAG, tokenizer=BERT_TOKENIZER),
}
PAIR_STUDENTS: Mapping[str, Mapping[str, Any]] = {
    "clip_rn50": public(
        "clip",
        "openai/clip-rn50",
        1e-5,
        tokenizer="openai/clip-vit-base-patch32",
        **CLIP,
    ),
    "clip_b32": public(
        "clip",
        "openai/clip-vit-base-patch32",
        1e-5,
        tokenizer="openai/clip-vit-base-patch32",
        **CLIP,
    ),
    "small_pair": random("small_pair", TOWERS | BAG, image_size=64, tokenizer=BERT_TOKENIZER),
}

_SMOKE_WORDS = {"vocab_size": 257, "width": 8, "depth": 1, "heads": 2, "hidden": 8}
_SMOKE_BAG = {"vocab_size": 257, "embedding": 8, "widths": (8,), "dropout": 0.1}
SMOKE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "vit": {
        **{"image_size": 32, "patch_size": 16, "width": 8, "depth": 1, "heads": 2, "hidden": 8},
    },
    "mixer": {
        **{"image_size": 32, "patch_size": 16, "width": 8, "depth": 1},
        **{"token_hidden": 8, "channel_hidden": 8},
    },
    "resnet": {"depths": (1, 1), "block": "basic", "width": 4, "stem_width": 4},
    "resnet_v2": {"depths": (1, 1), "width": 4, "stem_width": 4, "groups": 2},
    "mobilenet_v4": {
        "stem": 4,
        "blocks": (({"kind": "convolution", "kernel": 3, "stride": 2, "channels": 8},),),
        "head_width": 8,
    },
    "bert": _SMOKE_WORDS | {"positions": 256},
    "clip": {
        "image": {
            "kind": "resnet",
            "depths": (1, 1, 1, 1),
            "width": 8,
            "heads": 4,
            "image_size": 32,
        },
        "text": _SMOKE_WORDS | {"positions": 256},
        "projection": 8,
    },
    "small_cnn": {"widths": (4,), "strides": (2,)},
    "bag_of_tokens": _SMOKE_BAG,
    "small_pair": {"channels": (4,), "strides": (2,)} | _SMOKE_BAG,
}
"""Architecture -> options that train in seconds on a CPU."""


def set_student(config: Any, name: str, table: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes a student into a config: its weights, what it reads, and its learning rate.

    Args:
        config: changed in place.
        name: of the student.
        table: the students that fit the data.

    Raises:
        ConfigError: the table has no such name.
    """
    if name not in table:
        raise ConfigError(f"config argument student is one of {', '.join(table)}; got {name!r}.")
    entry = table[name]
    config.student.update(entry["student"])
    config.inputs.update(entry["inputs"])
    config.optim.learning_rate = entry["rate"]
