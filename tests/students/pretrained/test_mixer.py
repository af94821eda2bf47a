"""MLP-Mixer against timm's modules with the same weights."""

import copy
from typing import Any

import jax
import numpy as np
import pytest
import timm
import torch
from timm.models.mlp_mixer import MlpMixer

from aft_jax.errors import UsageError
from aft_jax.students.mixer import mixer
from aft_jax.students.pretrained.formats import FORMATS
from aft_jax.students.pretrained.mixer_timm import MIXERS, TIMM_MIXER
from aft_jax.students.pretrained.public import public_tensors
from aft_jax.students.student import from_linen, parameter_count
from tests.students.pretrained.parity import (
    loaded,
    outputs_of,
    perturbed,
    relative_error,
    sgd_losses,
    tensors_of,
)

# The sizes of timm's own models are fixed: these are what other `model_args` would make of them.
SMALL: dict[str, Any] = {"embed_dim": 32, "num_blocks": 2, "patch_size": 4}
WIDE: dict[str, Any] = {"embed_dim": 24, "num_blocks": 1, "patch_size": 8, "mlp_ratio": 2.0}
CASES = {"mixer_s32_224": SMALL, "mixer_b16_224": WIDE}
LABELS = np.array([0, 2, 1])


def images(size=16):
    return np.random.default_rng(0).normal(size=(3, size, size, 3)).astype(np.float32)


def pixels():
    return torch.tensor(images().transpose(0, 3, 1, 2))


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """(torch module, config.json, our module, its variables)."""
    arguments = CASES[request.param]
    torch.manual_seed(0)
    model = perturbed(MlpMixer(num_classes=3, img_size=16, **arguments))
    description = {
        "architecture": request.param,
        "pretrained_cfg": {"input_size": [3, 16, 16]},
        "model_args": arguments,
    }
    assert [form for form in FORMATS.values() if form.recognises(description)] == [TIMM_MIXER]
    student = mixer(3, **TIMM_MIXER.options(description))
    return model, description, student, loaded(student, TIMM_MIXER, model, images())


@torch.inference_mode()
def test_features_and_logits(case):
    model, _, student, variables = case
    ours = outputs_of(student, variables, images())
    features = model.forward_head(model.forward_features(pixels()), pre_logits=True)
    assert relative_error(ours.features, features) < 1e-4
    assert relative_error(ours.logits, model(pixels())) < 1e-4


def test_the_loss_after_a_step(case):
    model, _, student, variables = case
    model = copy.deepcopy(model)
    steps = sgd_losses(
        student, variables, images(), model, lambda: model(pixels()), LABELS, rate=0.05
    )
    assert abs(steps.theirs[0] - steps.theirs[1]) > 0.01 * steps.theirs[0]
    np.testing.assert_allclose(steps.ours, steps.theirs, rtol=1e-4)


def test_the_tensors_come_back_bit_for_bit(case):
    model, description, _, variables = case
    back, tensors = public_tensors(variables, TIMM_MIXER), tensors_of(model)
    assert back.keys() == tensors.keys()
    for name, array in back.items():
        np.testing.assert_array_equal(array, tensors[name].values)
    options = TIMM_MIXER.options(description)
    config = TIMM_MIXER.exported(description, options, ["no", "maybe", "yes"])
    fresh = MlpMixer(num_classes=config["num_classes"], **config["model_args"])
    fresh.load_state_dict({name: torch.tensor(array) for name, array in back.items()}, strict=True)
    assert TIMM_MIXER.options(config) == options


def test_weights_of_another_image_size_are_refused(case):
    model, description, _, _ = case
    student = mixer(3, **(TIMM_MIXER.options(description) | {"image_size": 24}))
    with pytest.raises(UsageError, match=r"mis-shaped: blocks\.0\.mlp_tokens\.fc1\.weight"):
        loaded(student, TIMM_MIXER, model, images(24))


@pytest.mark.parametrize("name", MIXERS)
def test_the_published_sizes(name):
    with torch.device("meta"):
        model = timm.create_model(name)
    wanted = sum(parameter.numel() for parameter in model.parameters())
    student = mixer(1000, **TIMM_MIXER.options({"architecture": name}))
    shapes = jax.eval_shape(from_linen(student).init, jax.random.key(0), images(224))
    assert parameter_count(shapes) == wanted


def test_what_is_none_of_these():
    for name in ("gmixer_24_224", "resmlp_12_224", "gmlp_s16_224", "vit_base_patch16_224"):
        assert not TIMM_MIXER.recognises({"architecture": name})
    assert not TIMM_MIXER.recognises({"model_type": "bert"})


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"stem_norm": True}, r"stem_norm is False: .*; got True"),
        ({"act_layer": "relu"}, r"model_args are among .*; got act_layer"),
    ],
)
def test_a_model_that_ours_is_not(argument, message):
    description = {"architecture": "mixer_b16_224", "model_args": argument}
    with pytest.raises(ValueError, match=message):
        TIMM_MIXER.options(description)
