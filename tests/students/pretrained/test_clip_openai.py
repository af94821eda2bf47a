"""CLIP under OpenAI's names beside torch modules of its definition, its ResNet beside timm's."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from timm.models import byobnet

from aft_jax.errors import UsageError
from aft_jax.students.clip import clip
from aft_jax.students.pretrained.clip_openai import OPENAI_CLIP
from aft_jax.students.pretrained.public import public_tensors
from tests.students.pretrained import openai_clip
from tests.students.pretrained.clip_pairs import (
    CLASSES,
    LABELS,
    assert_same_outputs,
    assert_same_step,
    assert_same_tensors,
    filled,
    in_torch,
    pairs,
    read_by,
)
from tests.students.pretrained.openai_clip import DEPTHS, QUICK, RESNET, VIT
from tests.students.pretrained.parity import (
    outputs_of,
    perturbed,
    relative_error,
    sgd_losses,
    tensors_of,
)

OPENAI = {"vit": VIT | QUICK, "resnet": RESNET | QUICK}


def openai_model(settings, activation: Any = openai_clip.QuickGelu) -> Any:
    torch.manual_seed(0)
    model: Any = perturbed(openai_clip.Clip(settings, CLASSES, activation))
    if settings["vision_cfg"]["patch_size"] is None:
        # Statistics near the true ones: with others every pixel of the last map ends below zero.
        model.train()
        for seed in range(20):
            model.visual(in_torch(pairs(64, seed=seed))[0])
        for name, counter in model.named_buffers():
            if name.endswith("num_batches_tracked"):
                counter.zero_()
    return model.eval()


@pytest.fixture(scope="module", params=OPENAI)
def openai(request):
    """(settings, torch module, our module, its variables, side of its images)."""
    settings = OPENAI[request.param]
    model, student = (
        openai_model(settings),
        clip(CLASSES, **OPENAI_CLIP.options({"model_cfg": settings})),
    )
    size = settings["vision_cfg"]["image_size"]
    return settings, model, student, filled(student, OPENAI_CLIP, tensors_of(model), size), size


@pytest.mark.parametrize("length", [7, 9])
def test_the_outputs_are_those_of_openais_definition(openai, length):
    _, model, student, variables, size = openai
    inputs = pairs(size, length)
    pixels, ids, _ = in_torch(inputs)
    with torch.no_grad():
        features, logits = model.features(pixels, ids), model(pixels, ids)
    assert_same_outputs(student, variables, inputs, features, logits)


def test_the_activation_where_the_description_names_none():
    model, student = (
        openai_model(VIT, torch.nn.GELU),
        clip(CLASSES, **OPENAI_CLIP.options({"model_cfg": VIT})),
    )
    inputs = pairs(32)
    pixels, ids, _ = in_torch(inputs)
    with torch.no_grad():
        features, logits = model.features(pixels, ids), model(pixels, ids)
    variables = filled(student, OPENAI_CLIP, tensors_of(model), 32)
    assert_same_outputs(student, variables, inputs, features, logits)
    # Of a ResNet, it was forgotten.
    described, forgotten = ({"model_cfg": settings} for settings in (RESNET | QUICK, RESNET))
    assert OPENAI_CLIP.options(forgotten) == OPENAI_CLIP.options(described)


def test_a_step_of_training_under_openais_names(openai):
    _, model, student, variables, size = openai
    model, inputs = copy.deepcopy(model), pairs(size)
    pixels, ids, _ = in_torch(inputs)
    steps = sgd_losses(
        student, variables, inputs, model, lambda: model(pixels, ids), LABELS, rate=1e-3
    )
    assert_same_step(steps)
    with torch.no_grad():
        features, logits = model.features(pixels, ids), model(pixels, ids)
    assert_same_outputs(student, steps.variables, inputs, features, logits)


def test_the_tensors_come_back_under_openais_names(openai):
    settings, model, _, variables, _ = openai
    back = public_tensors(variables, OPENAI_CLIP)
    assert_same_tensors(back, tensors_of(model))
    assert read_by(openai_clip.Clip(settings, CLASSES), back) == (["logit_scale"], [])


@pytest.mark.parametrize("openai", ["resnet"], indirect=True)
def test_timm_reads_the_resnet_and_gives_the_same_features(openai):
    blocks = tuple(
        byobnet.ByoBlockCfg(type="bottle", d=depth, c=32 * 2**stage, s=min(stage + 1, 2), br=0.25)
        for stage, depth in enumerate(DEPTHS)
    )
    settings = byobnet.ByoModelCfg(
        blocks,
        stem_chs=(4, 4, 8),
        stem_type="",
        stem_pool="avg2",
        downsample="avg",
        aa_layer="avg",
        head_type="attn_abs",
    )
    tower: Any = byobnet.ByobNet(settings, num_classes=12, img_size=64).eval()
    _, _, student, variables, _ = openai
    tensors = public_tensors(variables, OPENAI_CLIP)
    state = {name: torch.tensor(tensor) for name, tensor in tensors.items()}
    tower.load_state_dict(byobnet.checkpoint_filter_fn(state, tower), strict=True)
    inputs = pairs(64)
    with torch.no_grad():
        theirs = tower(in_torch(inputs)[0])
    assert relative_error(outputs_of(student, variables, inputs).features["image"], theirs) < 1e-4


def test_a_resnet_has_no_positions_for_another_size():
    options = OPENAI_CLIP.options({"model_cfg": RESNET})
    options["image"] |= {"image_size": 96}
    tensors = tensors_of(openai_clip.Clip(RESNET, CLASSES))
    with pytest.raises(UsageError, match=r"attnpool.positional_embedding \(5, .*\(10, 256\)"):
        filled(clip(CLASSES, **options), OPENAI_CLIP, tensors, 96)


def test_positions_of_another_size_are_open_clips():
    options = OPENAI_CLIP.options({"model_cfg": VIT})
    options["image"] |= {"image_size": 48}
    tensors = tensors_of(openai_clip.Clip(VIT, CLASSES))
    variables = filled(clip(CLASSES, **options), OPENAI_CLIP, tensors, 48)
    table = torch.tensor(tensors["visual.positional_embedding"].read())
    grid = table[1:].T.reshape(1, -1, 4, 4)
    resized = torch.nn.functional.interpolate(grid, (6, 6), mode="bicubic", antialias=True)
    expected = torch.cat([table[:1], resized.flatten(2)[0].T])
    actual = public_tensors(variables, OPENAI_CLIP)["visual.positional_embedding"]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
