"""MobileNetV4 beside timm's, from the same tensors."""

import json
import math
from typing import Any

import jax
import numpy as np
import pytest
import timm
import torch
from flax import traverse_util
from timm.models import _efficientnet_builder, mobilenetv3

from aft_jax.students.mobilenet_v4 import mobilenet_v4
from aft_jax.students.pretrained.formats import FORMATS
from aft_jax.students.pretrained.mobilenet_timm import ARCHITECTURES, TIMM_MOBILENET_V4
from aft_jax.students.pretrained.names import places
from aft_jax.students.pretrained.public import load_public, public_tensors
from aft_jax.students.student import parameter_count
from tests.students.pretrained.parity import (
    for_torch,
    outputs_of,
    perturbed,
    relative_error,
    sgd_losses,
    tensors_of,
    variables_of,
)

FORM = TIMM_MOBILENET_V4
CLASSES = 5
# Every kind of block with its variants, the shortcut of each, and a stride in each place.
THEIRS = [
    ["cn_r1_k3_s2_e1_c16", "cn_r1_k1_s1_e1_c16"],
    ["er_r2_k3_s2_e2_c16"],
    ["uir_r2_a5_k3_s2_e2_c16", "uir_r1_a0_k3_s1_e3_c16", "uir_r1_a0_k0_s1_e2_c16"],
    ["uir_r1_a3_k0_s2_e2_c24"],
    ["cn_r1_k1_s1_c32"],
]
BLOCK = {"kind": "universal", "start": 0, "middle": 3, "stride": 1, "expansion": 2, "channels": 16}
OURS = {
    "stem": 8,
    "head_width": 24,
    "blocks": [
        [
            {"kind": "convolution", "kernel": 3, "stride": 2, "channels": 16},
            {"kind": "convolution", "kernel": 1, "stride": 1, "channels": 16},
        ],
        [
            {"kind": "fused", "kernel": 3, "stride": 2, "expansion": 2, "channels": 16},
            {"kind": "fused", "kernel": 3, "stride": 1, "expansion": 2, "channels": 16},
        ],
        [
            BLOCK | {"start": 5, "stride": 2},
            BLOCK | {"start": 5},
            BLOCK | {"expansion": 3},
            BLOCK | {"middle": 0},
        ],
        [BLOCK | {"start": 3, "middle": 0, "stride": 2, "channels": 24}],
        [{"kind": "convolution", "kernel": 1, "stride": 1, "channels": 32}],
    ],
}


def settled(model, size):
    """With running statistics of images of that size: others would silence most channels."""
    perturbed(model).train()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches
        norm.reset_running_stats()
    with torch.no_grad():
        for seed in range(8):
            model(for_torch(pixels(size, seed=seed)))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def untrained():
    torch.manual_seed(0)
    return mobilenetv3.MobileNetV3(
        _efficientnet_builder.decode_arch_def(THEIRS),
        num_classes=CLASSES,
        stem_size=8,
        num_features=24,
        head_bias=False,
        head_norm=True,
    )


def tiny(size):
    return settled(untrained(), size)


def pixels(size, count=8, seed=0):
    images = np.random.default_rng(seed).normal(size=(count, size, size, 3))
    return images.astype(np.float32)


def assert_same_outputs(student, variables, model, images):
    ours = outputs_of(student, variables, images)
    with torch.no_grad():
        last = model.forward_features(for_torch(images))
        features = model.forward_head(last, pre_logits=True)
        logits = model.classifier(features)
    assert features.std(0).mean() > 0.1
    assert relative_error(ours.features, features) < 1e-4
    assert relative_error(ours.logits, logits) < 1e-4


def filled(student, model):
    """The student's variables with timm's weights: whatever they are not given is zero."""
    shapes = jax.eval_shape(lambda: variables_of(student, pixels(32, count=1)))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return load_public(tensors_of(model), FORM, zeros, "timm's model", with_head=True)


# With 8 pixels strides move over a single one: its shape stays, but there is no shortcut.
@pytest.mark.parametrize("size", [8, 32, 48])
def test_the_outputs_are_timms(size):
    model, student = tiny(size), mobilenet_v4(CLASSES, **OURS)
    assert_same_outputs(student, filled(student, model), model, pixels(size))


def test_a_published_architecture():
    torch.manual_seed(0)
    model = settled(timm.create_model("mobilenetv4_conv_small_035", num_classes=CLASSES), 48)
    student = mobilenet_v4(CLASSES, **FORM.options({"architecture": "mobilenetv4_conv_small_035"}))
    assert_same_outputs(student, filled(student, model), model, pixels(48, count=2))


@pytest.mark.parametrize("remat", [False, True])
def test_a_step_of_training(remat):
    model, student = tiny(48), mobilenet_v4(CLASSES, **OURS, remat=remat)
    images = pixels(48)
    theirs, labels = for_torch(images), np.arange(len(images)) % CLASSES
    steps = sgd_losses(
        student, filled(student, model), images, model, lambda: model(theirs), labels
    )
    assert abs(steps.theirs[1] - steps.theirs[0]) > 0.01
    np.testing.assert_allclose(steps.ours, steps.theirs, rtol=1e-4)
    assert_same_outputs(student, steps.variables, model, images)


def test_the_tensors_come_back():
    model, student = tiny(48), mobilenet_v4(CLASSES, **OURS)
    tensors, back = tensors_of(model), public_tensors(filled(student, model), FORM)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(back[name], tensor.read())
    untrained().load_state_dict({name: torch.tensor(tensor) for name, tensor in back.items()})


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_published_architectures_have_timms_tensors(name):
    options = FORM.options({"architecture": name, "model_args": {"drop_rate": 0.2}})
    student = mobilenet_v4(1000, **json.loads(json.dumps(options)))
    with torch.device("meta"):
        model: Any = timm.create_model(name)
    variables = jax.eval_shape(lambda: variables_of(student, pixels(32, count=1)))
    leaves: dict[str, Any] = traverse_util.flatten_dict(variables, sep="/")
    shapes = {path: leaf.shape for path, leaf in leaves.items()}
    found = places(FORM.rows, shapes) | places(FORM.head, shapes)
    assert {key: place.torch_shape(shapes[place.path]) for key, place in found.items()} == {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert sum(p.numel() for p in model.parameters()) == parameter_count(variables)
    # Strides leave no trace in the shapes of tensors.
    theirs = [[strides(block) for block in stage] for stage in model.blocks]
    assert theirs == [[block["stride"] for block in stage] for stage in options["blocks"]]


def strides(block):
    return math.prod(m.stride[0] for m in block.modules() if isinstance(m, torch.nn.Conv2d))


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_no_other_format_has_this_config(name):
    description = {"architecture": name, "num_classes": 1000}
    assert FORM.recognises(description)
    assert not any(form.recognises(description) for form in FORMATS.values() if form is not FORM)


@pytest.mark.parametrize(
    "name", ["mobilenetv4_hybrid_medium", "mobilenetv4_conv_aa_large", "mobilenetv3_large_100"]
)
def test_relatives_are_not_taken_for_it(name):
    assert not FORM.recognises({"architecture": name})


def test_a_changed_architecture():
    description = {"architecture": "mobilenetv4_conv_small", "model_args": {"aa_layer": "avg"}}
    with pytest.raises(ValueError, match=r"model_args are among .*drop_rate.*; got aa_layer"):
        FORM.options(description)
