"""A student that started from public weights, trained, exported, and loaded by transformers."""

import importlib
import json
import shutil
from typing import Any

import huggingface_hub
import jax
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from aft_jax import cli
from aft_jax.config import resolve
from aft_jax.data import load_split, make_inputs
from aft_jax.errors import UsageError
from aft_jax.export import export
from aft_jax.features import extract
from aft_jax.students import load_student, make_student, normalised
from aft_jax.training import evaluate, train
from configs import common
from tests.teachers import checkpoints
from tests.teachers.torchvision_ops import import_torchvision

pytestmark = pytest.mark.usefixtures("standard_promotion")

import_torchvision()
timm: Any = importlib.import_module("timm")  # needs the line above


def run(root, start, name, **options):
    """A finished run on generated images."""
    raw = common.smoke(_images())
    raw.steps = 2
    raw.student.options = options
    raw.student.update(name=name, pretrained=str(start))
    config = resolve(raw)
    train(config, root / "run")
    return root / "run"


def _images():
    config = common.vision("none", "vit_s")
    config.data.name = "generated"
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        checkpoints.save("vit", root / "published")
        return run(root, root / "published", "vit")


def test_transformers_classifies_as_the_student_does(trained, capsys):
    assert cli.main(["export", f"--workdir={trained}"]) == 0
    assert capsys.readouterr().out == f"exported: {trained / 'export'}\n"
    directory = trained / "export"
    model = transformers.AutoModelForImageClassification.from_pretrained(directory).eval()
    assert model.config.id2label == {0: "red", 1: "green", 2: "blue"}

    saved = load_student(trained)
    config = resolve(json.loads((trained / "config.json").read_text()))
    dataset = load_split(config.data, "tune")
    loaded = make_inputs(config.inputs, config.augment, dataset)(np.arange(6))
    student = normalised(make_student(saved.name, 3, saved.options), config.inputs)
    ours, _ = jax.jit(student.apply, static_argnums=2)(saved.variables, loaded, False, {})
    pixels = (loaded.astype(np.float32) / 255 - 0.5) / 0.5
    with torch.no_grad():
        theirs = model(torch.tensor(pixels.transpose(0, 3, 1, 2))).logits.numpy()
    np.testing.assert_allclose(ours.logits, theirs, rtol=1e-4, atol=1e-5)


def test_the_processor_comes_along(trained):
    export(trained)
    assert (trained / "export" / "preprocessor_config.json").is_file()


def test_training_moved_the_weights(trained):
    export(trained)
    published = transformers.AutoModel.from_pretrained(trained.parent / "published").state_dict()
    ours = transformers.AutoModel.from_pretrained(trained / "export").state_dict()
    moved = ours["embeddings.cls_token"] - published["embeddings.cls_token"]
    assert 0 < moved.abs().max() < 0.1


def test_evaluation_needs_no_public_weights(trained, monkeypatch):
    hidden = trained.parent / "hidden"
    (trained.parent / "published").rename(hidden)
    values = evaluate(trained)
    hidden.rename(trained.parent / "published")
    result = json.loads((trained / "result.json").read_text())
    assert values["accuracy"] == pytest.approx(result["tune"]["accuracy"])


def test_a_student_of_our_own_says_where_its_weights_are(trained, tmp_path):
    config = common.vision("none", "small_cnn")
    config.data.name = "generated"
    raw = common.smoke(config)
    raw.update(steps=2)
    train(resolve(raw), tmp_path / "run")
    with pytest.raises(UsageError, match=r"small_cnn that started from none\. Its weights are in"):
        export(tmp_path / "run")


def test_a_student_of_a_student_keeps_its_origin(trained, tmp_path, monkeypatch):
    """Fine-tuned twice, it still goes back under the first checkpoint's names."""
    raw = common.smoke(_images())
    raw.update(steps=2)
    raw.student.options = {"remat": True}
    raw.student.update(name="vit", init_from=str(trained))
    train(resolve(raw), tmp_path / "run")
    export(tmp_path / "run")
    model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "run/export")
    assert model.config.num_labels == 3


def test_aft_trains_from_public_weights(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = common.vision("dinov2_s", "vit_s")
    config.data.name = "generated"
    raw = common.smoke(config)
    raw.update(steps=2)
    raw.student.options = {}
    raw.student.update(name="vit", pretrained=str(trained.parent / "published"))
    extract(resolve(raw))
    train(resolve(raw), tmp_path / "run")
    saved = load_student(tmp_path / "run")
    assert saved.origin["format"] == "transformers' ViT"
    assert saved.options["width"] == 32


def test_timm_classifies_as_a_student_from_timm_does(tmp_path):
    """Also at another image size than it was published for."""
    arguments: dict[str, Any] = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2}
    arguments["num_heads"] = 2
    model = timm.create_model("vit_small_patch16_224", num_classes=7, **arguments)
    published = tmp_path / "published"
    published.mkdir()
    save_file(model.state_dict(), published / "model.safetensors")
    description = {
        "architecture": "vit_small_patch16_224",
        "num_classes": 7,
        "pretrained_cfg": {"input_size": [3, 16, 16], "mean": [0.5] * 3, "std": [0.5] * 3},
        "model_args": arguments,
    }
    (published / "config.json").write_text(json.dumps(description))
    trained = run(tmp_path, published, "vit")
    export(trained)
    again = timm.create_model(f"local-dir:{trained / 'export'}", pretrained=True).eval()
    pixels = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    saved = load_student(trained)
    student = make_student("vit", 3, saved.options)
    ours, _ = jax.jit(student.apply, static_argnums=2)(saved.variables, pixels, False, {})
    with torch.no_grad():
        theirs = again(torch.tensor(pixels.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(ours.logits, theirs, rtol=1e-4, atol=1e-5)


def test_options_that_the_originals_description_cannot_say_are_refused(trained, tmp_path):
    raw = common.smoke(_images())
    raw.update(steps=2)
    raw.student.options = {"activation": "gelu_tanh"}
    raw.student.update(name="vit", pretrained=str(trained.parent / "published"))
    train(resolve(raw), tmp_path / "run")
    with pytest.raises(UsageError, match=r"activation is 'gelu_tanh', theirs 'gelu'\. Train with"):
        export(tmp_path / "run")


def test_the_processor_has_the_students_size(trained):
    """Published for 16 pixels, trained at 32."""
    export(trained)
    processor = json.loads((trained / "export" / "preprocessor_config.json").read_text())
    assert processor["size"] == {"height": 32, "width": 32}
    described = json.loads((trained / "export" / "config.json").read_text())
    assert (described["image_size"], described["dtype"]) == (32, "float32")


def test_an_origin_of_another_version_is_refused(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    checkpoints.edit(run / "student" / "student.json", origin={"format": "timm vit"})
    with pytest.raises(UsageError, match=r"got \['format'\] and 'timm vit'\. student\.json is of"):
        export(run)
