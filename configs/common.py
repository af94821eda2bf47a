"""What the configs of this folder share: inputs, optimizer, teachers, and smoke runs.

Batch 128, 5,000 steps, Adam without weight decay, learned scales at 1e-2: the published settings.
The students, each with its learning rate, are in `configs/students.py`.
"""

from collections.abc import Mapping
from typing import Any

from aft_jax.config.defaults import base_config, teacher
from aft_jax.errors import ConfigError
from configs.students import (
    PAIR_STUDENTS,
    SMOKE_OPTIONS,
    TEXT_STUDENTS,
    VISION_STUDENTS,
    set_student,
)

# Names as in timm, which are also the names on the Hugging Face hub below "timm/".
VISION_TEACHERS: Mapping[str, Mapping[str, Any]] = {
    "dinov2_s": teacher("timm", "vit_small_patch14_dinov2.lvd142m"),
    "dinov2_b": teacher("timm", "vit_base_patch14_dinov2.lvd142m"),
    "dinov2_l": teacher("timm", "vit_large_patch14_dinov2.lvd142m"),
    "dinov2_g": teacher("timm", "vit_giant_patch14_dinov2.lvd142m"),
    "clip_b": teacher("timm", "vit_base_patch16_clip_224.laion2b"),
    "clip_l": teacher("timm", "vit_large_patch14_clip_224.laion2b"),
    "clip_h": teacher("timm", "vit_huge_patch14_clip_224.laion2b"),
    "clip_g": teacher("timm", "vit_giant_patch14_clip_224.laion2b"),
    "siglip_b": teacher("timm", "vit_base_patch16_siglip_224.webli"),
    "siglip_l": teacher("timm", "vit_large_patch16_siglip_256.webli"),
    "siglip_so400m": teacher("timm", "vit_so400m_patch14_siglip_384.webli"),
    "bit_50x1": teacher("timm", "resnetv2_50x1_bit.goog_in21k"),
    "bit_50x3": teacher("timm", "resnetv2_50x3_bit.goog_in21k"),
    "bit_101x1": teacher("timm", "resnetv2_101x1_bit.goog_in21k"),
    "bit_101x3": teacher("timm", "resnetv2_101x3_bit.goog_in21k"),
    "bit_152x2": teacher("timm", "resnetv2_152x2_bit.goog_in21k"),
    "bit_152x4": teacher("timm", "resnetv2_152x4_bit.goog_in21k"),
}

TEXT_TEACHERS: Mapping[str, Mapping[str, Any]] = {
    "flan_t5_s": teacher("huggingface", "google/flan-t5-small"),
    "flan_t5_b": teacher("huggingface", "google/flan-t5-base"),
    "flan_t5_l": teacher("huggingface", "google/flan-t5-large"),
    "gpt2_s": teacher("huggingface", "openai-community/gpt2"),
    "gpt2_m": teacher("huggingface", "openai-community/gpt2-medium"),
    "gpt2_l": teacher("huggingface", "openai-community/gpt2-large"),
    "gpt2_xl": teacher("huggingface", "openai-community/gpt2-xl"),
    # Behind a licence to accept on the hub; in float32 its weights alone take 27 GB.
    "llama2_7b": teacher("huggingface", "meta-llama/Llama-2-7b-hf", dtype="bfloat16"),
    "llama2_7b_chat": teacher("huggingface", "meta-llama/Llama-2-7b-chat-hf", dtype="bfloat16"),
}

PAIR_TEACHERS: Mapping[str, Mapping[str, Any]] = {
    "clip_l": teacher("huggingface", "openai/clip-vit-large-patch14", tower="both"),
}

IMAGE_TEXT_TOKENS = 64
"""Tokens of a sentence that goes with an image."""


def vision(teachers: str, student: str) -> Any:
    """Images; the data are left to fill in.

    Args:
        teachers: names of `VISION_TEACHERS` joined by +; "none" for plain fine-tuning.
        student: a name of `VISION_STUDENTS`.

    Returns:
        The config.

    Raises:
        ConfigError: a teacher or the student is unknown.
    """
    config = base_config()
    config.inputs.kind = "image"
    set_student(config, student, VISION_STUDENTS)
    return _with_teachers(config, teachers, VISION_TEACHERS)


def text(teachers: str, student: str, max_length: int = 128) -> Any:
    """Text; the data are left to fill in.

    Args:
        teachers: names of `TEXT_TEACHERS` joined by +; "none" for plain fine-tuning.
        student: a name of `TEXT_STUDENTS`.
        max_length: tokens that the student reads of a text, a multiple of 4.

    Returns:
        The config.

    Raises:
        ConfigError: a teacher or the student is unknown.
    """
    config = base_config()
    config.inputs.update(kind="text", **_lengths(max_length))
    set_student(config, student, TEXT_STUDENTS)
    return _with_teachers(config, teachers, TEXT_TEACHERS)


def pair(teachers: str, student: str) -> Any:
    """Images with a text each; the data are left to fill in.

    Args:
        teachers: names of `PAIR_TEACHERS` joined by +; "none" for plain fine-tuning.
        student: a name of `PAIR_STUDENTS`.

    Returns:
        The config; the features of a teacher's two towers combine by their product.

    Raises:
        ConfigError: a teacher or the student is unknown.
    """
    config = base_config()
    config.inputs.update(kind="image_text", **_lengths(IMAGE_TEXT_TOKENS))
    set_student(config, student, PAIR_STUDENTS)
    config = _with_teachers(config, teachers, PAIR_TEACHERS)
    if config.teachers:
        config.method_options.combine = "product"
    return config


def smoke(config: Any) -> Any:
    """A config that runs in seconds on a CPU, without network: generated data, random teachers.

    Args:
        config: what `vision`, `text` or `pair` returned, its data filled in.

    Returns:
        The same config, changed.
    """
    kind = config.inputs.kind
    config.data.update(source="generated", path=kind, task="", columns={}, on_error="raise")
    config.data.update(train="train", tune="tune", tune_fraction=0.0, test="test")
    config.inputs.update(image_size=32, tokenizer="bytes", max_length=256, buckets=(128, 256))
    config.student.pretrained = ""
    config.student.options = SMOKE_OPTIONS[config.student.name]
    for seed, name in enumerate(config.teachers):
        config.teachers[name] = teacher("random", "", options={"width": 16, "seed": seed})
    config.features.update(directory="runs/smoke/features", batch_size=32, threads=2)
    config.update(batch_size=16, steps=4, log_every=2, eval_every=2, checkpoint_every=2)
    config.compare.update(betas=(10.0, 30.0), search_seeds=(100,), seeds=(0, 1))
    return config


def _lengths(max_length: int) -> dict[str, Any]:
    return {
        "max_length": max_length,
        "buckets": (max_length // 4, max_length // 2, max_length),
    }


def _with_teachers(config: Any, names: str, table: Mapping[str, Mapping[str, Any]]) -> Any:
    if names == "none":
        return config
    for name in names.split("+"):
        if name not in table:
            raise ConfigError(
                "config argument teachers is none, or names joined by + of "
                f"{', '.join(table)}; got {name!r} in {names!r}."
            )
        config.teachers[name] = dict(table[name])
    config.method = "aft"
    config.beta = 10.0  # `compare` chooses it on tune
    return config
