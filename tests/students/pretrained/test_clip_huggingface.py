"""CLIP beside transformers' CLIPModel, from what it saves."""

import copy
import json
from typing import Any

import pytest
import torch
import transformers
from safetensors.numpy import load_file

from aft_jax.students.clip import clip
from aft_jax.students.pretrained.clip_huggingface import HUGGINGFACE_CLIP
from aft_jax.students.pretrained.public import public_tensors
from aft_jax.teachers.huggingface_inputs import hide_broken_torchvision
from tests.students.pretrained.clip_pairs import (
    CLASSES,
    END,
    LABELS,
    assert_same_outputs,
    assert_same_step,
    assert_same_tensors,
    filled,
    in_torch,
    pairs,
    read_by,
)
from tests.students.pretrained.parity import Stored, perturbed, sgd_losses

hide_broken_torchvision()

HUGGINGFACE = {
    "text_config": {
        **{"vocab_size": 30, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2},
        **{"num_attention_heads": 3, "max_position_embeddings": 9, "eos_token_id": END},
        **{"bos_token_id": 28, "pad_token_id": 1},
    },
    "vision_config": {
        **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "image_size": 32, "patch_size": 8},
    },
    "projection_dim": 12,
}


def huggingface_model() -> Any:
    """transformers' model, and a classifier beside its towers."""
    torch.manual_seed(0)
    model: Any = transformers.CLIPModel(transformers.CLIPConfig(**copy.deepcopy(HUGGINGFACE)))
    model.classifier = torch.nn.Linear(12**2, CLASSES)
    return perturbed(model)


def huggingface_outputs(model, inputs, **options):
    """((image, text), logits)"""
    pixels, ids, mask = in_torch(inputs)
    image = model.get_image_features(pixels, **options).pooler_output
    text = model.get_text_features(ids, attention_mask=mask).pooler_output
    return (image, text), model.classifier(torch.einsum("bi,bj->bij", image, text).flatten(1))


@pytest.fixture(scope="module")
def huggingface(tmp_path_factory):
    """(transformers' module, config.json, tensors as saved, our module)."""
    directory = tmp_path_factory.mktemp("saved")
    model = huggingface_model()
    model.save_pretrained(directory)
    tensors = load_file(directory / "model.safetensors")
    description = json.loads((directory / "config.json").read_text())
    student = clip(CLASSES, **HUGGINGFACE_CLIP.options(description))
    return model, description, {name: Stored(array) for name, array in tensors.items()}, student


@pytest.mark.parametrize(("length", "padding"), [(7, 0), (9, END)])
def test_the_outputs_are_those_of_transformers(huggingface, length, padding):
    model, _, tensors, student = huggingface
    variables = filled(student, HUGGINGFACE_CLIP, tensors, 32)
    inputs = pairs(32, length, padding)
    with torch.no_grad():
        features, logits = huggingface_outputs(model, inputs)
    assert_same_outputs(student, variables, inputs, features, logits)


def test_images_of_another_size(huggingface):
    model, description, tensors, _ = huggingface
    options = HUGGINGFACE_CLIP.options(description)
    options["image"] |= {"image_size": 48}
    student = clip(CLASSES, **options)
    variables = filled(student, HUGGINGFACE_CLIP, tensors, 48)
    with torch.no_grad():
        features, logits = huggingface_outputs(model, pairs(48), interpolate_pos_encoding=True)
    assert_same_outputs(student, variables, pairs(48), features, logits)
    changed = HUGGINGFACE_CLIP.exported(description, options, ["a", "b", "c"])
    theirs: Any = transformers.CLIPConfig.from_dict(changed)
    assert theirs.vision_config.image_size == 48


def test_a_step_of_training_with_transformers(huggingface):
    model, _, tensors, student = huggingface
    model, inputs = copy.deepcopy(model), pairs(32)
    variables = filled(student, HUGGINGFACE_CLIP, tensors, 32)
    steps = sgd_losses(
        student,
        variables,
        inputs,
        model,
        lambda: huggingface_outputs(model, inputs)[1],
        LABELS,
        rate=1e-3,
    )
    assert_same_step(steps)


def test_the_tensors_come_back_under_transformers_names(huggingface):
    _, description, tensors, student = huggingface
    variables = filled(student, HUGGINGFACE_CLIP, tensors, 32)
    back = public_tensors(variables, HUGGINGFACE_CLIP)
    assert_same_tensors(back, tensors)
    options = HUGGINGFACE_CLIP.options(description)
    changed = HUGGINGFACE_CLIP.exported(description, options, ["a", "b", "c"])
    fresh = transformers.CLIPModel(transformers.CLIPConfig.from_dict(changed))
    expected = ["logit_scale"], ["classifier.bias", "classifier.weight"]
    assert read_by(fresh, back) == expected
    assert fresh.config.id2label == {0: "a", 1: "b", 2: "c"}
