"""Checkpoints in the Hugging Face layout: found, whole, and named by their content."""

import json
import os
import re
import sys

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors import numpy as safetensors

from aft_jax import hub
from aft_jax.errors import ConfigError, UsageError
from aft_jax.hub import (
    Checkpoint,
    Source,
    fetch_checkpoint,
    files_digest,
    find_checkpoint,
    read_description,
    weight_files,
    weights_digest,
)
from aft_jax.lazy_tensors import open_tensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"
INDEX = "model.safetensors.index.json"


def student(name, revision=""):
    return Source(str(name), revision, "student.pretrained")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The snapshot of "tiny/vit" in a hub cache, on a machine without network; still empty."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--tiny--vit"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    return snapshot


def save(path, **tensors):
    safetensors.save_file(tensors, path)
    return path


def save_shards(directory):
    """Two shards and their index."""
    (directory / "config.json").write_text('{"model_type": "vit"}')
    names = [f"model-0000{shard}-of-00002.safetensors" for shard in (1, 2)]
    save(directory / names[0], a=np.arange(6, dtype=np.float32).reshape(2, 3))
    save(directory / names[1], b=np.arange(4), c=np.ones((), np.float16))
    weight_map = {"a": names[0], "b": names[1], "c": names[1]}
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return Checkpoint(directory, "tiny", "")


def settle(path):
    """As if nobody had written to the file for an hour more."""
    hour_before = path.stat().st_mtime - 3600
    os.utime(path, (hour_before, hour_before))


def test_shards_are_read_as_one(tmp_path):
    paths = weight_files(save_shards(tmp_path))
    assert paths[0].name == INDEX
    tensors = open_tensors(paths)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    assert shapes == {"a": (2, 3), "b": (4,), "c": ()}
    np.testing.assert_array_equal(tensors["b"].read(), [0, 1, 2, 3])


def test_a_missing_shard(tmp_path):
    checkpoint = save_shards(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UsageError, match=r"lacks model-00002-of-00002\.safetensors\. Download it"):
        weight_files(checkpoint)


@pytest.mark.parametrize(
    "content", [{}, {"weight_map": ["a"]}, {"weight_map": {"a": "../x.safetensors"}}]
)
def test_a_damaged_index(content, tmp_path):
    (tmp_path / INDEX).write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"index\.json has a weight_map, .* found none"):
        weight_files(Checkpoint(tmp_path, "tiny", ""))


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"safetensors files only; .* it has none\. Use a revis"):
        weight_files(Checkpoint(tmp_path, "tiny", ""))


def test_a_directory(tmp_path):
    found = fetch_checkpoint(student(tmp_path, "mine"))
    assert found == find_checkpoint(student(tmp_path, "mine"))
    assert found == Checkpoint(tmp_path, tmp_path.name, "mine")
    with pytest.raises(UsageError, match=r"Point config\.student\.pretrained at what save_pretr"):
        read_description(found, "student.pretrained")


@pytest.mark.parametrize(
    ("source", "key"),
    [
        (student("/no/such"), r"config\.student\.pretrained is a"),
        (
            Source("/no/such", "", "teachers.*.source", reader="a timm teacher"),
            r"config\.teachers\.\*\.source of a timm teacher is a",
        ),
    ],
)
def test_a_missing_directory(source, key):
    assert find_checkpoint(source) is None
    with pytest.raises(UsageError, match=rf"^{key} directory or a hub id; .* directory '/no/such'"):
        fetch_checkpoint(source)


@pytest.mark.usefixtures("cache")
def test_a_hub_model_that_is_not_to_be_had():
    source = student("tiny/other")
    assert find_checkpoint(source) is None
    start = re.escape("config.student.pretrained 'tiny/other' is no directory here, and the hub ")
    with pytest.raises(UsageError, match=rf"{start}.* config\.student\.revision, .* as pretrained"):
        fetch_checkpoint(source)


def test_a_hub_model_in_the_cache(cache):
    save_shards(cache)
    assert find_checkpoint(student("tiny/vit")) == Checkpoint(cache, "tiny/vit", COMMIT)
    assert fetch_checkpoint(student("tiny/vit", COMMIT)).revision == COMMIT


def test_a_download_that_was_cut_short_goes_on(cache, monkeypatch):
    """Also at a commit, which needs no network once it is here."""
    save_shards(cache)
    shard = cache / "model-00002-of-00002.safetensors"
    content = shard.read_bytes()
    shard.unlink()
    assert find_checkpoint(student("tiny/vit", COMMIT)) is None

    def finish(source, offline):
        if not offline:
            shard.write_bytes(content)
        return Checkpoint(cache, source.name, COMMIT)

    monkeypatch.setattr(hub, "_download", finish)
    assert len(weight_files(fetch_checkpoint(student("tiny/vit", COMMIT)))) == 3


def test_a_missing_client_of_the_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert find_checkpoint(student("tiny/vit")) is None
    with pytest.raises(ConfigError, match=r"student\.pretrained 'tiny/vit' .* pip install hugging"):
        fetch_checkpoint(student("tiny/vit"))


def test_a_file_is_hashed_once_until_it_changes(tmp_path, monkeypatch):
    checkpoint = save_shards(tmp_path)
    hashed = []
    sha256_of = hub.sha256_of
    monkeypatch.setattr(hub, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    for path in tmp_path.iterdir():
        settle(path)
    before = weights_digest(checkpoint, code=False)
    assert weights_digest(checkpoint, code=False) == before
    assert len(hashed) == len(set(hashed)) == 4
    shard = tmp_path / "model-00002-of-00002.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    settle(shard)
    assert weights_digest(checkpoint, code=False) != before
    assert hashed[4:] == [shard]


def test_a_file_that_was_just_written_is_hashed_again(tmp_path):
    """Its time may stay the same when it is written once more."""
    path = tmp_path / "model.py"
    path.write_text("WIDTH = 1")
    written = path.stat().st_mtime_ns
    before = files_digest([path])
    path.write_text("WIDTH = 2")
    os.utime(path, ns=(written, written))
    assert files_digest([path]) != before
