"""What CLIP's descriptions say: which options they give, and what a trained student's say."""

import copy
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers

from aft_jax.students.clip import clip
from aft_jax.students.pretrained.clip_huggingface import HUGGINGFACE_CLIP
from aft_jax.students.pretrained.clip_openai import OPENAI_CLIP
from aft_jax.students.pretrained.formats import FORMATS
from aft_jax.students.student import from_linen, parameter_count
from aft_jax.teachers.huggingface_inputs import hide_broken_torchvision
from tests.students.pretrained import openai_clip
from tests.students.pretrained.openai_clip import RESNET, VISION, VIT

hide_broken_torchvision()


def test_each_description_is_of_one_format():
    both = transformers.CLIPConfig().to_dict(), {"model_cfg": RESNET, "preprocess_cfg": {}}
    for expected, description in zip((HUGGINGFACE_CLIP, OPENAI_CLIP), both, strict=True):
        ours = {name: form for name, form in FORMATS.items() if form.student == "clip"}
        found = [name for name, form in ours.items() if form.recognises(description)]
        assert found == [expected.name]


def test_descriptions_that_repeat_themselves():
    # Of the two, transformers reads the repetition, with its own defaults below it.
    text, vision = (
        {"hidden_act": "gelu"},
        {"hidden_act": "gelu", "hidden_size": 96, "patch_size": 16},
    )
    description = {
        "model_type": "clip",
        "text_config": {"num_hidden_layers": 3, "hidden_act": "quick_gelu"},
        "text_config_dict": text,
        "vision_config": {"num_hidden_layers": 3},
        "vision_config_dict": vision,
    }
    theirs: Any = transformers.CLIPConfig.from_dict(copy.deepcopy(description))
    ours = HUGGINGFACE_CLIP.options(description)
    for mine, settings in (
        (ours["image"], theirs.vision_config),
        (ours["text"], theirs.text_config),
    ):
        assert mine["depth"] == settings.num_hidden_layers
        assert mine["activation"] == settings.hidden_act
        assert mine["width"] == settings.hidden_size
    assert ours["image"]["patch_size"] == theirs.vision_config.patch_size
    exported = HUGGINGFACE_CLIP.exported(description, ours | {"image": {"image_size": 320}}, ["a"])
    again: Any = transformers.CLIPConfig.from_dict(exported)
    assert again.vision_config.image_size == 320


def test_what_open_clip_reads_of_a_trained_student():
    description = {"model_cfg": VIT, "preprocess_cfg": {"mean": [0.5] * 3}}
    changed = OPENAI_CLIP.exported(description, {"image": {"image_size": 48}}, ["a", "b"])
    assert changed["model_cfg"]["vision_cfg"] == VISION | {"image_size": 48}
    assert changed["preprocess_cfg"] == description["preprocess_cfg"]
    assert changed["label_names"] == ["a", "b"]
    assert VISION["image_size"] == 32


@pytest.mark.parametrize(
    ("part", "key"),
    [("model_cfg", "custom_text"), ("vision_cfg", "timm_model_name"), ("text_cfg", "pool_type")],
)
def test_towers_that_are_not_clips(part, key):
    model = (
        VIT | {key: "other"} if part == "model_cfg" else VIT | {part: VIT[part] | {key: "other"}}
    )
    with pytest.raises(ValueError, match=f"{part} describes CLIP's own towers.*got {key} as well"):
        OPENAI_CLIP.options({"model_cfg": model})


def published(depths, embed_dim):
    vision = {"image_size": 224, "layers": depths, "width": 64, "patch_size": None}
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    return {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text}


@pytest.mark.parametrize(
    ("depths", "embed_dim", "millions"),
    [((3, 4, 6, 3), 1024, 102.01), ((3, 4, 23, 3), 512, 119.69)],
)
def test_parameters_of_the_published_resnets(depths, embed_dim, millions):
    settings = published(list(depths), embed_dim)
    with torch.device("meta"):
        model = openai_clip.Clip(settings, 2)
    student = clip(2, **OPENAI_CLIP.options({"model_cfg": settings}))
    assert_same_count(student, model, millions, classifier=2 * embed_dim**2 + 2)


@pytest.mark.parametrize(("patch", "millions"), [(32, 151.28), (16, 149.62)])
def test_parameters_of_the_published_vits(patch, millions):
    config = transformers.CLIPConfig(vision_config={"patch_size": patch})
    with torch.device("meta"):
        model = transformers.CLIPModel(config)
    student = clip(2, **HUGGINGFACE_CLIP.options(config.to_dict()))
    assert_same_count(student, model, millions, classifier=0, ours_only=2 * 512**2 + 2)


def assert_same_count(student, model, millions, classifier, ours_only=0):
    """`millions` are those of open_clip's table of models, which has the temperature as well."""
    theirs = sum(parameter.numel() for parameter in model.parameters())
    assert round((theirs - classifier) / 1e6, 2) == millions
    inputs = {"image": np.zeros((1, 224, 224, 3), np.float32)}
    inputs |= {name: np.ones((1, 8), np.int32) for name in ("input_ids", "attention_mask")}
    shapes = jax.eval_shape(from_linen(student).init, jax.random.key(0), inputs)
    assert parameter_count(shapes) == theirs - 1 + ours_only
