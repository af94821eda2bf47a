"""Residual networks of both kinds beside timm's and transformers', from the same tensors."""

import copy
import functools
import json
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import timm
import torch
import transformers
from timm.models import resnetv2

from aft_jax.students.pretrained.format import Format
from aft_jax.students.pretrained.formats import FORMATS
from aft_jax.students.pretrained.public import public_tensors
from aft_jax.students.pretrained.resnet_huggingface import HUGGINGFACE_RESNET
from aft_jax.students.pretrained.resnet_timm import ARCHITECTURES, TIMM_RESNET
from aft_jax.students.pretrained.resnet_v2_huggingface import HUGGINGFACE_RESNET_V2
from aft_jax.students.pretrained.resnet_v2_timm import ARCHITECTURES as BIT_ARCHITECTURES
from aft_jax.students.pretrained.resnet_v2_timm import TIMM_RESNET_V2
from aft_jax.students.resnet import resnet
from aft_jax.students.resnet_v2 import resnet_v2
from aft_jax.students.student import from_linen, parameter_count
from aft_jax.teachers.huggingface_inputs import hide_broken_torchvision
from aft_jax.types import PyTree
from tests.students.pretrained.parity import (
    for_torch,
    loaded,
    outputs_of,
    perturbed,
    relative_error,
    sgd_losses,
    tensors_of,
)

hide_broken_torchvision()

CLASSES = 5
STUDENTS = {"resnet": resnet, "resnet_v2": resnet_v2}
OURS = (TIMM_RESNET, HUGGINGFACE_RESNET, TIMM_RESNET_V2, HUGGINGFACE_RESNET_V2)
FOUR = {"layers": [1, 2, 1, 1], "channels": [4, 8, 16, 32]}  # timm's have four stages
TWO: dict[str, Any] = {"embedding_size": 8, "depths": [1, 2]}
GROUPS = TWO | {"embedding_size": 16, "hidden_sizes": [32, 64], "num_groups": 4}
# Case -> format, architecture of timm or class of transformers, what it is made with.
CASES: dict[str, tuple[Format, str, dict[str, Any]]] = {
    "timm, basic": (TIMM_RESNET, "resnet18", FOUR),
    "timm, bottleneck": (TIMM_RESNET, "resnet50", FOUR),
    "transformers, basic": (
        *(HUGGINGFACE_RESNET, "ResNet"),
        # Channels change nowhere in the first stage, as in ResNet-18: no map on its shortcut.
        TWO | {"layer_type": "basic", "hidden_sizes": [8, 16], "downsample_in_bottleneck": True},
    ),
    "transformers, bottleneck": (HUGGINGFACE_RESNET, "ResNet", TWO | {"hidden_sizes": [32, 64]}),
    "transformers, first": (
        *(HUGGINGFACE_RESNET, "ResNet"),
        TWO | {"hidden_sizes": [32, 64], "downsample_in_bottleneck": True},
    ),
    "timm, BiT": (
        *(TIMM_RESNET_V2, "resnetv2_152x2_bit"),
        {"layers": [1, 2], "channels": [64, 128], "stem_chs": 16, "width_factor": 2},
    ),
    "transformers, BiT": (HUGGINGFACE_RESNET_V2, "Bit", GROUPS),
}
BOTH = pytest.mark.parametrize("case", list(CASES))


def untrained(case):
    """The torch model, as it is made."""
    form, name, arguments = CASES[case]
    torch.manual_seed(0)
    if form == TIMM_RESNET_V2:  # timm's named functions take no other depths
        make: Any = resnetv2._create_resnetv2_bit
        return make(name, num_classes=CLASSES, **arguments)
    if form == TIMM_RESNET:
        return timm.create_model(name, num_classes=CLASSES, **arguments)
    config = getattr(transformers, f"{name}Config")(**arguments, num_labels=CLASSES)
    return getattr(transformers, f"{name}ForImageClassification")(config)


def description_of(case, model, directory):
    """Its config.json."""
    form, name, arguments = CASES[case]
    if form.name.startswith("timm"):
        return {"architecture": name, "num_classes": CLASSES, "model_args": arguments}
    model.save_pretrained(directory)
    return json.loads((directory / "config.json").read_text())


def student_of(form, description):
    return STUDENTS[form.student](CLASSES, **form.options(description))


class Pair(NamedTuple):
    """Our student and the torch model, with the same weights."""

    student: Any
    variables: PyTree
    model: Any


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Case -> its pair, built once."""

    @functools.cache
    def build(case):
        form = CASES[case][0]
        model = perturbed(untrained(case))
        student = student_of(form, description_of(case, model, tmp_path_factory.mktemp("saved")))
        return Pair(student, loaded(student, form, model, pixels(1, 32, 32)), model)

    return build


def pixels(*shape):
    return np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)


@torch.no_grad()
def features_of(model, images):
    x = for_torch(images)
    if hasattr(model, "forward_head"):
        return model.forward_head(model.forward_features(x), pre_logits=True)
    return model.base_model(x).pooler_output.flatten(1)


def logits_of(model, images):
    output = model(for_torch(images))
    return output if isinstance(output, torch.Tensor) else output.logits


@BOTH
@pytest.mark.parametrize("size", [(32, 32), (45, 40)])
def test_features_and_logits_are_the_originals(case, size, pair):
    student, variables, model = pair(case)
    images = pixels(6, *size)
    features, logits = features_of(model, images), logits_of(model, images)
    ours = outputs_of(student, variables, images)
    assert float(features.std(0).mean()) > 1e-2 * float(features.abs().mean())
    assert relative_error(ours.features, features) < 1e-4
    assert relative_error(ours.logits, logits) < 1e-4


@pytest.mark.parametrize("case", [case for case in CASES if "BiT" in case])
def test_weights_and_images_as_small_as_the_epsilons(case, pair):
    student, _, model = pair(case)
    model, images = copy.deepcopy(model), 1e-3 * pixels(6, 32, 32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e-3 if parameter.ndim == 4 else 1)
    ours = outputs_of(student, loaded(student, CASES[case][0], model, images[:1]), images)
    assert relative_error(ours.features, features_of(model, images)) < 1e-4


@BOTH
def test_a_step_of_training_is_the_originals(case, pair):
    student, variables, model = pair(case)
    model = copy.deepcopy(model)
    images, labels = pixels(6, 45, 40), np.arange(6) % CLASSES

    def logits():
        return logits_of(model, images)

    steps = sgd_losses(student, variables, images, model, logits, labels, rate=0.05)
    assert abs(steps.ours[1] - steps.ours[0]) > 1e-2 * steps.ours[0]
    np.testing.assert_allclose(steps.ours, steps.theirs, rtol=1e-4)
    ours = outputs_of(student, steps.variables, images)
    # A rounding error may swap the sign of a ReLU's input, or the winner in a pool, on one side:
    # torch's own gradients in float32 and float64 then differ by a percent.
    assert relative_error(ours.features, features_of(model, images)) < 1e-3


@BOTH
def test_the_tensors_come_back(case, pair):
    _, variables, model = pair(case)
    stored, written = tensors_of(model), public_tensors(variables, CASES[case][0])
    assert written.keys() == stored.keys()
    for name, values in written.items():
        np.testing.assert_array_equal(values, stored[name].values, err_msg=name)
    tensors = {name: torch.tensor(values) for name, values in written.items()}
    untrained(case).load_state_dict(tensors, strict=True)


@BOTH
def test_one_format_recognises_a_checkpoint(case, tmp_path):
    description = description_of(case, untrained(case), tmp_path)
    forms = {form.name: form for form in OURS} | dict(FORMATS)
    found = [form for form in forms.values() if form.recognises(description)]
    assert found == [CASES[case][0]]


def count_of(form, description):
    """Parameters of our student, which is not built."""
    student = from_linen(STUDENTS[form.student](1000, **form.options(description)))
    return parameter_count(jax.eval_shape(student.init, jax.random.key(0), pixels(1, 32, 32)))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", [*ARCHITECTURES, *BIT_ARCHITECTURES])
def test_the_published_sizes_of_timm(name):
    form = TIMM_RESNET if name in ARCHITECTURES else TIMM_RESNET_V2
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=1000)
    assert count_of(form, {"architecture": name, "num_classes": 1000}) == count(theirs)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ResNet", {}),  # microsoft/resnet-50
        (
            "ResNet",  # microsoft/resnet-18
            {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
        ),
        ("Bit", {"conv_layer": "std_conv"}),  # google/bit-50
    ],
)
def test_the_published_sizes_of_transformers(name, arguments, tmp_path):
    config = getattr(transformers, f"{name}Config")(**arguments, num_labels=1000)
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        theirs = getattr(transformers, f"{name}ForImageClassification")(config)
    form = HUGGINGFACE_RESNET if name == "ResNet" else HUGGINGFACE_RESNET_V2
    assert count_of(form, json.loads((tmp_path / "config.json").read_text())) == count(theirs)


@pytest.mark.parametrize(
    ("form", "name"), [(HUGGINGFACE_RESNET, "ResNet"), (HUGGINGFACE_RESNET_V2, "Bit")]
)
def test_keys_that_are_left_out_have_the_defaults_of_transformers(form, name):
    written = getattr(transformers, f"{name}Config")().to_dict()
    assert form.options({"model_type": name.lower()}) == form.options(written)


@pytest.mark.parametrize(
    ("form", "description", "message"),
    [
        (HUGGINGFACE_RESNET, {"hidden_act": "gelu"}, "hidden_act is 'relu'; got 'gelu'"),
        (
            HUGGINGFACE_RESNET,
            {"downsample_in_first_stage": True},
            "downsample_in_first_stage is False; got True",
        ),
        (
            HUGGINGFACE_RESNET,
            {"hidden_sizes": [256, 500]},
            r"hidden_sizes double .* from a multiple of 4; got \[256, 500\]",
        ),
        (
            HUGGINGFACE_RESNET_V2,
            {"layer_type": "bottleneck"},
            "layer_type is 'preactivation'; got 'bottleneck'",
        ),
        (HUGGINGFACE_RESNET_V2, {"global_padding": "SAME"}, "is None; got 'SAME'"),
        (
            HUGGINGFACE_RESNET_V2,
            {"embedding_dynamic_padding": True},
            "embedding_dynamic_padding is False; got True",
        ),
        (HUGGINGFACE_RESNET_V2, {"width_factor": 3}, "width_factor is 1; got 3"),
        (HUGGINGFACE_RESNET_V2, {"output_stride": 16}, "output_stride is 32; got 16"),
        (HUGGINGFACE_RESNET_V2, {"hidden_sizes": [24, 48]}, "from a multiple of 32; got"),
        (
            TIMM_RESNET,
            {"architecture": "resnet50", "model_args": {"stem_type": "deep", "drop_rate": 0.1}},
            "model_args are among channels, global_pool, block, layers, .*; got stem_type",
        ),
        (
            TIMM_RESNET_V2,
            {"architecture": "resnetv2_50x1_bit", "model_args": {"global_pool": "max"}},
            "global_pool is 'avg'; got 'max'",
        ),
    ],
)
def test_what_our_networks_are_not(form, description, message):
    with pytest.raises(ValueError, match=message):
        form.options(description)
