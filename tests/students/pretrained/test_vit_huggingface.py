"""Vision transformers of transformers: the same numbers, and back bit for bit."""

import json
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from aft_jax.students.pretrained.formats import FORMATS
from aft_jax.students.pretrained.public import load_public, public_tensors
from aft_jax.students.vit import vit
from tests.students.pretrained.parity import (
    Stored,
    for_torch,
    outputs_of,
    perturbed,
    relative_error,
    variables_of,
)
from tests.students.pretrained.vit_images import CLASSES, SIZE, SIZES, pixels

HIDDEN: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
PIXELS: dict[str, Any] = {"image_size": SIZE, "patch_size": 8, "num_labels": CLASSES}
WIDE: dict[str, Any] = {"intermediate_size": 48}
TRANSFORMERS = {
    "vit": lambda: transformers.ViTForImageClassification(
        transformers.ViTConfig(**HIDDEN, **PIXELS, **WIDE)
    ),
    "dinov2": lambda: transformers.Dinov2ForImageClassification(
        transformers.Dinov2Config(**HIDDEN, **PIXELS)
    ),
    "dinov2 gated": lambda: transformers.Dinov2ForImageClassification(
        transformers.Dinov2Config(**HIDDEN, **PIXELS, use_swiglu_ffn=True)
    ),
    "dinov2 with registers": lambda: transformers.Dinov2WithRegistersForImageClassification(
        transformers.Dinov2WithRegistersConfig(**HIDDEN, **PIXELS, num_register_tokens=3)
    ),
    "clip": lambda: transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(**HIDDEN, **PIXELS, **WIDE)
    ),
    "siglip": lambda: transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(**HIDDEN, **PIXELS, **WIDE)
    ),
}
WITHOUT_CLASSIFIER = ("clip", "siglip")


def written(kind, tmp_path) -> tuple[Any, Any, Any]:
    """A transformers model, its config.json, and the names in its file."""
    model: Any = perturbed(TRANSFORMERS[kind]())
    model.save_pretrained(tmp_path)
    description = json.loads((tmp_path / "config.json").read_text())
    return model, description, load_file(tmp_path / "model.safetensors")


def hidden(model, images):
    """What transformers' classifier reads."""
    if isinstance(model, transformers.ViTForImageClassification):
        return model.vit(images, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    if isinstance(model, transformers.CLIPVisionModel | transformers.SiglipVisionModel):
        return model(images, interpolate_pos_encoding=True).pooler_output
    tokens = model.base_model(images).last_hidden_state
    prefix = 1 + getattr(model.config, "num_register_tokens", 0)
    return torch.cat([tokens[:, 0], tokens[:, prefix:].mean(1)], dim=1)


def classified(model, images):
    interpolate = isinstance(model, transformers.ViTForImageClassification)
    options = {"interpolate_pos_encoding": True} if interpolate else {}
    return model(images, **options).logits


@SIZES
@pytest.mark.parametrize("kind", list(TRANSFORMERS))
def test_transformers_models(kind, size, tmp_path):
    model, description, tensors = written(kind, tmp_path)
    (form,) = [form for form in FORMATS.values() if form.recognises(description)]
    student = vit(CLASSES, **form.options(description) | {"image_size": size})
    variables = load_public(
        {name: Stored(values) for name, values in tensors.items()},
        form,
        variables_of(student, pixels(size)[:1]),
        "original",
        with_head=kind not in WITHOUT_CLASSIFIER,
    )
    ours = outputs_of(student, variables, pixels(size))
    with torch.no_grad():
        assert relative_error(ours.features, hidden(model, for_torch(pixels(size)))) < 1e-5
        if kind not in WITHOUT_CLASSIFIER:
            assert relative_error(ours.logits, classified(model, for_torch(pixels(size)))) < 1e-5


@pytest.mark.parametrize("kind", list(TRANSFORMERS))
def test_transformers_loads_what_is_written(kind, tmp_path):
    """Under its own names, bit for bit, through transformers' own reader."""
    model, description, tensors = written(kind, tmp_path)
    (form,) = [form for form in FORMATS.values() if form.recognises(description)]
    options = form.options(description)
    student = vit(CLASSES, **options)
    variables = load_public(
        {name: Stored(values) for name, values in tensors.items()},
        form,
        variables_of(student, pixels(SIZE)[:1]),
        "original",
        with_head=kind not in WITHOUT_CLASSIFIER,
    )
    changed = jax.tree.map(lambda x: np.asarray(x) * np.float32(1.5), variables)
    target = tmp_path / "export"
    target.mkdir()
    save_file(public_tensors(changed, form), target / "model.safetensors", {"format": "pt"})
    classes = [f"class {number}" for number in range(CLASSES)]
    exported = form.exported(description, options, classes)
    (target / "config.json").write_text(json.dumps(exported))
    again, report = type(model).from_pretrained(target, output_loading_info=True)
    assert set(report["missing_keys"]) <= {
        name for name in report["missing_keys"] if name.endswith("mask_token")
    }
    assert not report["mismatched_keys"]
    ours = outputs_of(student, changed, pixels(SIZE))
    with torch.no_grad():
        theirs = hidden(again.eval(), for_torch(pixels(SIZE)))
        assert relative_error(ours.features, theirs) < 1e-5
        if kind not in WITHOUT_CLASSIFIER:
            assert again.config.id2label[4] == "class 4"
            assert relative_error(ours.logits, classified(again, for_torch(pixels(SIZE)))) < 1e-5


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_an_image_tower_leaves_a_checkpoint_of_both(kind, tmp_path):
    """Read from the whole model, written as the tower alone, in the student's image size."""
    config = {"clip": transformers.CLIPConfig, "siglip": transformers.SiglipConfig}[kind]
    vision: dict[str, Any] = HIDDEN | WIDE | {"image_size": SIZE, "patch_size": 8}
    text: dict[str, Any] = HIDDEN | WIDE | {"vocab_size": 20, "max_position_embeddings": 8}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model: Any = {"clip": transformers.CLIPModel, "siglip": transformers.SiglipModel}[kind]
    model(config(text_config=text, vision_config=vision)).save_pretrained(tmp_path)
    description = json.loads((tmp_path / "config.json").read_text())
    ours = [form for form in FORMATS.values() if form.student == "vit"]
    (form,) = [form for form in ours if form.recognises(description)]
    student = vit(CLASSES, **form.options(description) | {"image_size": 48})
    tensors = load_file(tmp_path / "model.safetensors")
    stored = {name: Stored(values) for name, values in tensors.items()}
    variables = load_public(stored, form, variables_of(student, pixels(48)[:1]), "original")
    target = tmp_path / "export"
    target.mkdir()
    save_file(public_tensors(variables, form), target / "model.safetensors", {"format": "pt"})
    exported = form.exported(description, {"image_size": 48}, ["a"] * CLASSES)
    assert form.options(exported)["image_size"] == 48
    (target / "config.json").write_text(json.dumps(exported))
    again, report = transformers.AutoModel.from_pretrained(target, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    with torch.no_grad():
        theirs = again.eval()(for_torch(pixels(48))).pooler_output
    assert relative_error(outputs_of(student, variables, pixels(48)).features, theirs) < 1e-5
