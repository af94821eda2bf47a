"""Students from public weights in the trainer: what is refused before anything is written."""

import json
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from safetensors.numpy import save_file

from aft_jax.config import resolve, to_json
from aft_jax.errors import ConfigError, UsageError
from aft_jax.training import build, train
from configs import common, students
from tests.teachers import checkpoints


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """The tiny checkpoint "bert": 20 words, 24 positions."""
    directory = tmp_path_factory.mktemp("published") / "bert"
    checkpoints.save("bert", directory)
    return directory


def text_config(start, **inputs) -> Any:
    raw = common.text("none", "bert_small")
    raw.data.name = "generated"
    raw = common.smoke(raw)
    raw.student.options = {}
    raw.student.pretrained = str(start)
    raw.inputs.update({"tokenizer": str(start), "max_length": 24, "buckets": (24,)} | inputs)
    return resolve(raw)


def test_text_students_train_from_public_weights(bert, tmp_path):
    config = text_config(bert)
    values = train(config, tmp_path / "run")
    assert values["step"] == config.steps
    description = json.loads((tmp_path / "run/student/student.json").read_text())
    assert description["options"]["vocab_size"] == 20
    assert description["origin"]["format"] == "transformers' BERT"


def test_a_tokenizer_with_more_words_is_refused(bert):
    with pytest.raises(
        ConfigError, match=r"vocab_size is at least .* got 20 for the 257 ids of 'b"
    ):
        build(text_config(bert, tokenizer="bytes"))


def test_a_tokenizer_with_fewer_words_is_another_vocabulary(bert, tmp_path):
    words = checkpoints.tokenizer(end=None)
    words.save_pretrained(tmp_path)
    assert len(words) < 20
    with pytest.raises(
        ConfigError,
        match=rf"tokenizer is that of the weights; .* knows 20 words, .* {len(words)}\. Set config",
    ):
        build(text_config(bert, tokenizer=str(tmp_path)))


def test_texts_longer_than_the_positions_are_refused(bert):
    with pytest.raises(ConfigError, match=r"max_length is at most the 24 positions that bert has"):
        build(text_config(bert, max_length=32, buckets=(32,)))


def image_config(name, start="", **inputs) -> Any:
    raw = common.vision("none", name)
    raw.data.name = "generated"
    raw = common.smoke(raw)
    if start:
        raw.student.options = {}
        raw.student.pretrained = str(start)
    raw.inputs.update(inputs)
    return resolve(raw)


def test_images_of_another_size_than_the_students_are_refused():
    with pytest.raises(
        ConfigError, match=r"fit each other: .* 32 pixels a side; got 16 x 16\. Set"
    ):
        build(image_config("vit_s", image_size=16))


def test_a_mixer_keeps_the_size_of_its_weights(tmp_path):
    """Its weights are tied to a number of patches, which no interpolation gives it."""
    arguments = {"img_size": 32, "patch_size": 16, "embed_dim": 8, "num_blocks": 1}
    description = {
        "architecture": "mixer_b16_224",
        "pretrained_cfg": {"input_size": [3, 32, 32], **students.HALF},
        "model_args": arguments,
    }
    (tmp_path / "config.json").write_text(json.dumps(description))
    save_file({"nothing": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(
        ConfigError, match=r"image_size, 32 pixels a side; got 64 x 64\. Set config"
    ):
        build(image_config("mixer_b", tmp_path, image_size=64))


def test_weights_that_do_not_fit_claim_no_directory(bert, tmp_path):
    changed = json.loads(to_json(text_config(bert)))
    changed["student"]["options"] = {"width": 64}
    with pytest.raises(
        UsageError, match=r"mis-shaped: embeddings\.LayerNorm\.bias \(32,\) instead"
    ):
        train(resolve(changed), tmp_path / "run")
    assert not (tmp_path / "run").exists()
