"""Vision transformers equal their originals, and go back under their names."""

from typing import Any

import jax
import numpy as np
import pytest
import timm
import torch
from timm.layers.activations import QuickGELU
from timm.layers.mlp import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer as TimmTransformer

from aft_jax.students.pretrained.public import load_public, public_tensors
from aft_jax.students.pretrained.vit_timm import TIMM_VIT
from aft_jax.students.vit import vit
from tests.students.pretrained.parity import (
    for_torch,
    outputs_of,
    perturbed,
    relative_error,
    sgd_losses,
    tensors_of,
    variables_of,
)
from tests.students.pretrained.vit_images import CLASSES, SIZE, SIZES, pixels

SMALL: dict[str, Any] = {
    "img_size": SIZE,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
}
NORM: dict[str, Any] = {"norm_layer": torch.nn.LayerNorm}
GATED: dict[str, Any] = {
    "mlp_layer": SwiGLUPacked,
    "act_layer": torch.nn.SiLU,
    "mlp_ratio": 16 / 3,
}
REGISTERS: dict[str, Any] = {"init_values": 0.1, "reg_tokens": 4, "no_embed_class": True}
QUICK: dict[str, Any] = {"pre_norm": True, "act_layer": QuickGELU} | NORM
TIMM: dict[str, dict[str, Any]] = {
    "vit_small_patch8_224": {},
    "vit_small_patch8_dinov2": {"init_values": 0.1},
    "vit_small_patch8_reg4_dinov2": REGISTERS,
    "vit_giant_patch8_dinov2": {"init_values": 0.1} | GATED,
    "vit_base_patch8_clip_224": {"pre_norm": True} | NORM,
    "vit_base_patch8_clip_quickgelu_224": QUICK,
    "vit_base_patch8_siglip_224": {"class_token": False, "global_pool": "map"},
    "vit_base_patch8_224": {"global_pool": "avg"},
}
"""Architecture -> what its name says, in timm's arguments."""


def timm_model(name) -> Any:
    arguments = SMALL | TIMM[name] | {"num_classes": CLASSES, "dynamic_img_size": True}
    return perturbed(TimmTransformer(**arguments))


def timm_options(name, size=SIZE):
    pooling = {key: value for key, value in TIMM[name].items() if key == "global_pool"}
    description = {"architecture": name, "model_args": SMALL | pooling}
    return TIMM_VIT.options(description) | {"image_size": size}


def compared(student, form, model, images, features, logits, with_head=True):
    """Checks features and logits, and returns the variables."""
    variables = load_public(
        tensors_of(model), form, variables_of(student, images[:1]), "original", with_head
    )
    ours = outputs_of(student, variables, images)
    with torch.no_grad():
        assert relative_error(ours.features, features(for_torch(images))) < 1e-5
        if with_head:
            assert relative_error(ours.logits, logits(for_torch(images))) < 1e-5
    return variables


@SIZES
@pytest.mark.parametrize("name", list(TIMM))
def test_timm_models(name, size):
    model, student = timm_model(name), vit(CLASSES, **timm_options(name, size))

    def features(images):
        return model.forward_head(model.forward_features(images), pre_logits=True)

    variables = compared(student, TIMM_VIT, model, pixels(size), features, model)
    if size == SIZE:
        assert_round_trip(variables, TIMM_VIT, model)


def assert_round_trip(variables, form, model, ignored=()):
    written, original = public_tensors(variables, form), tensors_of(model)
    assert set(original) - set(written) == set(ignored)
    for name in set(original) - set(ignored):
        np.testing.assert_array_equal(written[name], original[name].read())


def test_timm_loads_what_is_written():
    name = "vit_small_patch8_reg4_dinov2"
    student = vit(CLASSES, **timm_options(name))
    variables = variables_of(student, pixels(SIZE)[:1])
    state = {key: torch.tensor(x) for key, x in public_tensors(variables, TIMM_VIT).items()}
    model = timm_model(name)
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        theirs = model(for_torch(pixels(SIZE)))
    assert relative_error(outputs_of(student, variables, pixels(SIZE)).logits, theirs) < 1e-5


@pytest.mark.parametrize("name", ["vit_small_patch8_reg4_dinov2", "vit_base_patch8_siglip_224"])
def test_a_step_of_gradient_descent_is_the_originals(name):
    model, student = timm_model(name), vit(CLASSES, **timm_options(name))
    images, labels = pixels(SIZE), np.array([0, 3, 4])
    variables = load_public(
        tensors_of(model), TIMM_VIT, variables_of(student, images[:1]), "original", with_head=True
    )
    steps = sgd_losses(
        student, variables, images, model, lambda: model(for_torch(images)), labels, rate=0.03
    )
    assert steps.theirs[1] < steps.theirs[0]
    np.testing.assert_allclose(steps.ours, steps.theirs, rtol=1e-4)


PUBLISHED = [
    *("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224"),
    *("vit_large_patch16_384", "vit_huge_patch14_224", "vit_base_patch32_224"),
    *("vit_small_patch14_dinov2", "vit_giant_patch14_dinov2", "vit_small_patch14_reg4_dinov2"),
    *("vit_giant_patch14_reg4_dinov2", "vit_base_patch16_clip_224", "vit_huge_patch14_clip_224"),
    *("vit_giant_patch14_clip_224", "vit_base_patch32_clip_quickgelu_224"),
    *("vit_base_patch16_siglip_224", "vit_so400m_patch14_siglip_384"),
    *("vit_large_patch16_siglip_512", "vit_base_patch32_siglip_256"),
    "vit_so400m_patch16_siglip_256",
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_architectures_have_the_originals_tensors(name):
    with torch.device("meta"):
        model: Any = timm.create_model(name, num_classes=7)
    size = model.pretrained_cfg["input_size"]
    description = {"architecture": name, "pretrained_cfg": {"input_size": size}}
    assert TIMM_VIT.recognises(description)
    activation = {"GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "swiglu"}
    theirs = type(model.blocks[0].mlp.act).__name__
    assert TIMM_VIT.options(description)["activation"] == activation.get(theirs, "gelu")
    student = vit(7, **TIMM_VIT.options(description))
    images = jax.ShapeDtypeStruct((1, size[1], size[2], 3), np.float32)
    shapes = jax.eval_shape(
        lambda images: student.init(jax.random.key(0), images, train=False), images
    )
    zeros = jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), shapes)
    tensors = public_tensors(zeros, TIMM_VIT) if name.startswith("vit_tiny") else None
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes))
    assert count == sum(parameter.numel() for parameter in model.parameters())
    if tensors is not None:
        assert {key: x.shape for key, x in tensors.items()} == {
            key: tuple(x.shape) for key, x in model.state_dict().items()
        }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30, "heads": 4}, "width is a multiple of heads; got 30 for 4 heads"),
        ({"depth": 0}, "depth is a positive integer; got 0"),
        ({"pooling": "max"}, "pooling is one of 'cls', 'mean', 'cls_mean', 'map'; got 'max'"),
        ({"class_token": False}, "pooling without a class token is 'mean' or 'map'; got 'cls'"),
        ({"activation": "elu"}, "activation is one of 'gelu', .*; got 'elu'"),
        ({"registers": -1}, "registers is an integer, at least 0; got -1"),
        ({"remat": 1}, "remat is True or False; got 1"),
        ({"image_size": 4}, "image_size is at least patch_size; got 4 and 8"),
    ],
)
def test_options_that_do_not_fit(change, message):
    options = timm_options("vit_small_patch8_224") | change
    with pytest.raises(ValueError, match=message):
        vit(CLASSES, **options)


def test_images_of_another_size_are_refused():
    student = vit(CLASSES, **timm_options("vit_small_patch8_224"))
    with pytest.raises(ValueError, match=r"image_size, 32 pixels a side; got 48 x 48\. Set config"):
        variables_of(student, pixels(48))


def test_a_deep_stack_is_a_loop_with_the_same_numbers():
    """Compile time stays flat from the thirteenth block on."""
    options = timm_options("vit_small_patch8_224") | {"depth": 14}
    student, images = vit(CLASSES, **options), pixels(SIZE)
    variables = variables_of(student, images[:1])
    lowered = jax.jit(lambda v, x: student.apply(v, x, train=False)).lower(variables, images)
    assert lowered.as_text().count("stablehlo.while") == 1
    arguments: dict[str, Any] = SMALL | {"depth": 14, "num_classes": CLASSES}
    model = TimmTransformer(**arguments)
    state = {key: torch.tensor(x) for key, x in public_tensors(variables, TIMM_VIT).items()}
    model.load_state_dict(state)
    with torch.no_grad():
        theirs = model.eval()(for_torch(images))
    assert relative_error(outputs_of(student, variables, images).logits, theirs) < 1e-5


def test_older_descriptions_of_timm_are_flat():
    """Inputs stand at the top; an export keeps them."""
    old = {"architecture": "vit_small_patch16_224", "input_size": [3, 96, 96], "mean": [0.1] * 3}
    options = TIMM_VIT.options(old)
    assert options["image_size"] == 96
    published = TIMM_VIT.exported(old, options, ["a"])["pretrained_cfg"]
    assert (published["mean"], published["num_classes"]) == ([0.1] * 3, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fc_norm": False, "global_pool": "avg"}, "model_args are among .*; got fc_norm"),
        ({"global_pool": "avgmax"}, "global_pool is one of 'token', 'avg', 'map'; got 'avgmax'"),
    ],
)
def test_arguments_of_timm_that_ours_has_no_counterpart_of(arguments, message):
    description = {"architecture": "vit_small_patch16_224", "model_args": arguments}
    with pytest.raises(ValueError, match=message):
        TIMM_VIT.options(description)


def test_features_in_bfloat16_are_not_rounded_to_it():
    for pooling in ("cls", "mean", "cls_mean", "map"):
        changes = {"dtype": "bfloat16", "pooling": pooling}
        student = vit(CLASSES, **timm_options("vit_small_patch8_224") | changes)
        variables = variables_of(student, pixels(SIZE)[:1])
        features = outputs_of(student, variables, pixels(SIZE)).features
        assert np.any(features != features.astype("bfloat16").astype(np.float32)), pooling
