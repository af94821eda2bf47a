"""timm models saved as timm saves them for the hub: their own transform and pooled features."""

import json
import shutil
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aft_jax.errors import ConfigError, UsageError
from aft_jax.teachers import identify_teacher, make_teacher
from tests.teachers.torchvision_ops import import_torchvision

import_torchvision()
import timm  # noqa: E402 (needs the line above)
from timm.data.config import resolve_model_data_config  # noqa: E402
from timm.data.transforms_factory import create_transform  # noqa: E402

BOTH = pytest.mark.parametrize("make", [make_teacher, identify_teacher])
MODELS = {
    "vit_tiny_patch16_224": {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "resnetv2_50": {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16), "stem_chs": 8},
    "swin_tiny_patch4_window7_224": {
        **{"img_size": 32, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2)},
        "window_size": 4,
    },
}
DATA = {"input_size": (3, 32, 32), "mean": (0.4, 0.5, 0.6), "std": (0.3, 0.2, 0.1)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Architecture -> the directory it is saved in."""
    directory = tmp_path_factory.mktemp("timm")

    def build(name):
        if not (directory / name).exists():
            torch.manual_seed(0)
            model = timm.create_model(
                name, pretrained=False, num_classes=3, pretrained_cfg_overlay=DATA, **MODELS[name]
            )
            timm.models.save_for_hf(
                model, directory / name, model_args=MODELS[name], safe_serialization=True
            )
        return directory / name

    return build


@pytest.fixture
def raw(saved):
    def load(name):
        return timm.create_model(f"local-dir:{saved(name)}", pretrained=True).eval()

    return load


def pixels_of(model, images):
    transform: Any = create_transform(**resolve_model_data_config(model))
    return torch.stack([transform(Image.fromarray(image["image"])) for image in images])


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("prefix", ["", "local-dir:"])
@torch.inference_mode()
def test_the_features_are_what_the_classifier_reads(name, prefix, saved, raw, configure, images):
    teacher = make_teacher(configure("timm", f"{prefix}{saved(name)}"))
    features = teacher.features(teacher.prepare(images))
    model = raw(name)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    pixels = pixels_of(model, images)
    assert pixels.shape[2:] == (32, 32)
    model.reset_classifier(0)  # as the official code does
    wanted = model(pixels).flatten(1).numpy()
    assert features.keys() == {"pooled"}
    assert features["pooled"].std(0).mean() > 0.1
    np.testing.assert_allclose(features["pooled"], wanted, atol=1e-5)
    assert teacher.parameters == parameters


@pytest.mark.parametrize(
    ("name", "pooling", "pooled"),
    [
        ("vit_tiny_patch16_224", "cls", lambda states: states[:, 0]),
        ("vit_tiny_patch16_224", "mean", lambda states: states[:, 1:].mean(1)),
        ("resnetv2_50", "mean", lambda states: states.mean((2, 3))),
        ("swin_tiny_patch4_window7_224", "mean", lambda states: states.mean((1, 2))),
    ],
)
@torch.inference_mode()
def test_other_poolings(name, pooling, pooled, saved, raw, configure, images):
    teacher = make_teacher(configure("timm", saved(name), pooling=pooling))
    features = teacher.features(teacher.prepare(images))["pooled"]
    model = raw(name)
    wanted = pooled(model.forward_features(pixels_of(model, images))).numpy()
    np.testing.assert_allclose(features, wanted, atol=1e-5)


def test_bfloat16_is_close(saved, configure, images):
    both = []
    for dtype in ("float32", "bfloat16"):
        teacher = make_teacher(configure("timm", saved("vit_tiny_patch16_224"), dtype=dtype))
        both.append(teacher.features(teacher.prepare(images))["pooled"])
    assert both[1].dtype == np.float32
    np.testing.assert_allclose(both[1], both[0], atol=0.05 * np.abs(both[0]).max())


def test_the_identity_names_weights_and_data_config(saved, configure, tmp_path):
    config = configure("timm", saved("resnetv2_50"))
    identity = identify_teacher(config)
    assert make_teacher(config).identity == identity
    assert identity is not None
    assert identity.id == "timm/resnetv2_50"
    assert identity.pooling == "model"
    preprocessing = json.loads(identity.preprocessing)
    assert preprocessing["mean"] == [0.4, 0.5, 0.6]
    assert preprocessing["input_size"] == [3, 32, 32]
    changed = shutil.copytree(config.source, tmp_path / "resnetv2_50")
    content = bytearray((changed / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (changed / "model.safetensors").write_bytes(content)
    other = identify_teacher(configure("timm", changed))
    assert other is not None
    assert other.weights_sha256 != identity.weights_sha256
    assert other._replace(weights_sha256=identity.weights_sha256) == identity


def test_a_name_is_looked_for_on_the_hub(configure):
    config = configure("timm", "vit_tiny_patch16_224.augreg_in21k")
    assert identify_teacher(config) is None
    with pytest.raises(
        UsageError, match=r"'timm/vit_tiny_patch16_224.augreg_in21k' is no directory here, and the"
    ):
        make_teacher(config)


@BOTH
@pytest.mark.parametrize("name", ["no_such_model", "vit_tiny_patch16_224.no_such_tag"])
def test_an_unknown_name(make, name, configure):
    with pytest.raises(ConfigError, match=rf"name that timm.list_pretrained.*got '{name}'"):
        make(configure("timm", name))


@BOTH
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pooling": "pooler"}, "of a timm teacher is one of model, mean, cls; got 'pooler'"),
        ({"layers": (1,)}, r"layers does nothing for a timm teacher, .* \(\); got \(1,\)"),
    ],
)
def test_what_timm_does_not_offer(make, changes, message, saved, configure):
    with pytest.raises(ConfigError, match=message):
        make(configure("timm", saved("resnetv2_50"), **changes))


def test_a_model_without_class_token(saved, configure):
    with pytest.raises(ConfigError, match="has no class token, is one of model, mean; got 'cls'"):
        make_teacher(configure("timm", saved("resnetv2_50"), pooling="cls"))


@BOTH
def test_a_checkpoint_of_transformers(make, checkpoint, configure):
    with pytest.raises(UsageError, match=r"names its architecture; .*kind='huggingface'"):
        make(configure("timm", checkpoint("vit")))


def test_truncated_weights(saved, configure, tmp_path):
    broken = shutil.copytree(saved("resnetv2_50"), tmp_path / "broken")
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UsageError, match=r"timm cannot load the checkpoint in .* Download or save"):
        make_teacher(configure("timm", broken))


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_missing_package_names_the_extra(package, saved, configure, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"{package}.* pip install 'aft_jax\[teachers\]'"):
        make_teacher(configure("timm", saved("resnetv2_50")))
