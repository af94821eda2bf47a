"""What a directory or hub id is to a student, and everything that is refused on the way."""

import dataclasses
import json
import logging
import re
import shutil

import huggingface_hub
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aft_jax.config import Config, resolve
from aft_jax.config.defaults import base_config
from aft_jax.errors import ConfigError, UsageError
from aft_jax.students import find_start, make_student
from aft_jax.students.pretrained.checkpoint import find_public
from tests.teachers import checkpoints

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A directory with the tiny checkpoints "vit" and "bert"."""
    root = tmp_path_factory.mktemp("published")
    for name in ("vit", "bert"):
        checkpoints.save(name, root / name)
    return root


@pytest.fixture
def vit(published, tmp_path):
    """A copy of the vision transformer's checkpoint, to be changed."""
    return shutil.copytree(published / "vit", tmp_path / "vit")


def config(pretrained, name="vit", inputs=HALF, **student) -> Config:
    raw = base_config()
    raw.inputs.update({"kind": "image", "image_size": 16} | dict(inputs))
    raw.data.update(name="d", source="generated", path="image")
    raw.student.update(name=name, pretrained=str(pretrained), **student)
    return resolve(raw)


def start(whole: Config):
    return find_start(whole.student, whole.inputs)


def filled(whole: Config, shapes_only=True):
    found = start(whole)
    student = make_student(whole.student.name, 3, found.options)
    images = np.zeros((1, *(2 * (whole.inputs.image_size,)), 3), np.float32)
    shapes = jax.eval_shape(student.init, jax.random.key(0), images)
    return found.fill(shapes)


def test_the_options_are_the_checkpoints_and_the_size_that_of_the_images(published):
    found = start(config(published / "vit", inputs=HALF | {"image_size": 32}))
    assert found.options["image_size"] == 32
    assert (found.options["width"], found.options["depth"], found.options["patch_size"]) == (
        32,
        2,
        4,
    )
    assert found.options["epsilon"] == 1e-12


def test_the_configs_own_options_have_the_last_word(published):
    whole = config(published / "vit", options={"remat": True, "image_size": 24})
    options = start(whole).options
    assert (options["remat"], options["image_size"]) == (True, 24)


def test_only_the_classifier_stays_random(published, caplog):
    with caplog.at_level(logging.INFO, "aft_jax"):
        tree = filled(config(published / "vit"))
    flat = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
    random = {path for path, leaf in flat.items() if isinstance(leaf, jax.ShapeDtypeStruct)}
    assert random == {"params/head/kernel", "params/head/bias"}
    stored = load_file(published / "vit" / "model.safetensors")
    np.testing.assert_array_equal(
        flat["params/tower/blocks/mlp/fc1/kernel"][1],
        stored["encoder.layer.1.intermediate.dense.weight"].T,
    )


def test_a_replaced_classifier_is_said_so(vit, caplog):
    path = vit / "model.safetensors"
    tensors = load_file(path)
    extra = {"classifier.weight": np.zeros((7, 32), np.float32), "classifier.bias": np.zeros(7)}
    save_file(tensors | extra, path)
    with caplog.at_level(logging.INFO, "aft_jax"):
        filled(config(vit))
    old = r"classifier\.weight \(7, 32\), classifier\.bias \(7,\)"
    assert re.search(rf"vit: its classifier \({old}\) is replaced by a new 'head'", caplog.text)


def rename(path, old, new):
    tensors = load_file(path)
    tensors[new] = tensors.pop(old)
    save_file(tensors, path)


def test_every_tensor_that_does_not_fit_is_named(vit):
    path = vit / "model.safetensors"
    rename(path, "layernorm.weight", "layernorm.gain")
    tensors = load_file(path)
    tensors["layernorm.bias"] = np.zeros(5, np.float32)
    save_file(tensors, path)
    with pytest.raises(
        UsageError,
        match=r"vit has the tensors of a vit student .* Missing: layernorm\.weight; unexpected: "
        r"layernorm\.gain; mis-shaped: layernorm\.bias \(5,\) instead of \(32,\)",
    ):
        filled(config(vit))


def test_many_names_are_counted(vit):
    path = vit / "model.safetensors"
    kept = {"layernorm.weight": load_file(path)["layernorm.weight"]}
    save_file(kept, path)
    with pytest.raises(UsageError, match=r"Missing: embeddings\.cls_token, .* and \d+ more; unexp"):
        filled(config(vit))


def test_other_pixels_are_refused(published):
    with pytest.raises(
        UsageError,
        match=r"reads what vit was trained on; config\.inputs\.mean is \(0\.485, 0\.456, 0\.406\), "
        r"published with \(0\.5, 0\.5, 0\.5\)",
    ):
        start(config(published / "vit", inputs={}))


def test_another_architecture_is_refused(published):
    with pytest.raises(
        UsageError,
        match=r"vit is for 'vit', and the name is 'small_cnn'\. Set config\.student\.name",
    ):
        start(config(published / "vit", name="small_cnn"))


def test_an_unknown_kind_lists_near_matches(vit):
    checkpoints.edit(vit / "config.json", model_type="bertt")
    with pytest.raises(UsageError, match=r"vit is 'bertt'\. Near matches: .*bert"):
        start(config(vit))


def test_an_unknown_name_lists_near_matches():
    with pytest.raises(
        UsageError,
        match=r"config\.student\.pretrained 'facebook/dinov2-smal' .* "
        r"Near matches: facebook/dinov2-small",
    ):
        start(config("facebook/dinov2-smal"))


def test_a_directory_that_is_not_there():
    with pytest.raises(
        UsageError, match=r"config\.student\.pretrained .* no directory './nothing'"
    ):
        start(config("./nothing"))


def test_a_directory_without_description(tmp_path):
    with pytest.raises(UsageError, match=r"config\.json that names .* has no config\.json"):
        start(config(tmp_path))


def test_an_activation_that_no_student_has(vit):
    checkpoints.edit(vit / "config.json", hidden_act="selu")
    with pytest.raises(
        ConfigError, match=r"config\.json of vit: hidden_act is one of gelu, .*'selu'"
    ):
        start(config(vit))


def test_a_half_downloaded_file(vit):
    path = vit / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"model\.safetensors .* Download it again"):
        filled(config(vit))


def test_a_pickle_under_another_name(vit):
    content = b"\x80\x04\x95\x0d\0\0\0\0\0\0\0}\x94\x8c\x06weight\x94K\x01s."  # {"weight": 1}
    (vit / "model.safetensors").write_bytes(content)
    with pytest.raises(UsageError, match=r"model\.safetensors is a pickle, which can run code"):
        filled(config(vit))


def test_pickles_alone(vit):
    (vit / "model.safetensors").rename(vit / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"safetensors files only; .* has pytorch_model\.bin"):
        filled(config(vit))


def test_both_kinds_of_start_at_once(published):
    with pytest.raises(ConfigError, match=r"student\.pretrained is '' where .*init_from gives"):
        config(published / "vit", init_from="runs/x")


def test_a_revision_of_nothing():
    with pytest.raises(ConfigError, match=r"student\.revision is '' where .*pretrained is"):
        config("", revision="main")


def test_aliases_lead_to_safetensors():
    whole = config("openai/clip-rn50", name="clip")
    with pytest.raises(UsageError, match=r"'timm/resnet50_clip\.openai' is no directory"):
        find_public(whole.student)


def test_the_description_is_read_from_json_alone(vit):
    (vit / "config.json").write_text(json.dumps([1]))
    with pytest.raises(UsageError, match=r"config\.json is a JSON object; found list"):
        start(config(vit))


def test_a_model_with_other_inputs_than_pixels_checks_no_pixels(published):
    whole = config(published / "vit", inputs={})
    text = dataclasses.replace(whole.inputs, kind="text")
    assert find_start(whole.student, text).options["width"] == 32
