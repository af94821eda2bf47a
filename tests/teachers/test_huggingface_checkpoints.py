"""Which checkpoints are found, and what tells two of them apart."""

import importlib
import json
import shutil

import huggingface_hub
import numpy as np
import pytest
import transformers
from huggingface_hub import errors as hub_errors

from aft_jax.errors import UsageError
from aft_jax.teachers import identify_teacher, make_teacher
from tests.teachers import checkpoints
from tests.teachers.checkpoints import edit

COMMITS = ["0123456789abcdef0123456789abcdef01234567", "f" * 40]


@pytest.fixture
def identity_of(configure):
    def identify(source, **changes):
        identity = identify_teacher(configure("huggingface", source, **changes))
        assert identity is not None
        return identity

    return identify


@pytest.fixture
def cached(checkpoint, tmp_path, monkeypatch):
    """A hub cache with two revisions of one model, the older at "main"."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--tiny--bert"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMITS[0])
    for commit in COMMITS:
        shutil.copytree(checkpoint("bert"), repository / "snapshots" / commit)
    change_weights(repository / "snapshots" / COMMITS[1])
    return "tiny/bert"


def change_weights(directory):
    path = directory / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # a low bit of the last number's exponent
    path.write_bytes(content)


@pytest.mark.parametrize("name", list(checkpoints.MAKERS))
def test_the_identity_is_known_without_the_model(name, checkpoint, configure):
    config = configure("huggingface", checkpoint(name))
    identity = make_teacher(config).identity
    assert identify_teacher(config) == identity
    assert identity.id == f"huggingface/{name}"
    assert identity.revision == ""
    assert len(identity.weights_sha256) == 64


def test_changed_weights_are_another_identity(copied, identity_of):
    directory = copied("vit")
    before = identity_of(directory)
    change_weights(directory)
    after = identity_of(directory)
    assert after.weights_sha256 != before.weights_sha256
    assert after._replace(weights_sha256=before.weights_sha256) == before


def test_a_changed_config_is_another_identity(copied, identity_of):
    directory = copied("vit")
    before = identity_of(directory)
    edit(directory / "config.json", hidden_act="relu")
    assert identity_of(directory).weights_sha256 != before.weights_sha256


@pytest.mark.parametrize(
    "change",
    [
        {"size": {"shortest_edge": 17}},
        {"image_mean": [0.5, 0.5, 0.4]},
        {"image_std": [0.5, 0.5, 0.4]},
        {"do_center_crop": False},
        {"resample": 2},
    ],
)
def test_a_changed_processor_is_another_identity(change, copied, identity_of):
    directory = copied("dinov2")
    before = identity_of(directory)
    edit(directory / "preprocessor_config.json", **change)
    after = identity_of(directory)
    assert after.preprocessing != before.preprocessing
    assert after._replace(preprocessing=before.preprocessing) == before
    key, value = next(iter(change.items()))
    assert json.loads(after.preprocessing)["image"][key] == value


def test_a_changed_tokenizer_is_another_identity(copied, identity_of):
    directory = copied("bert")
    before = identity_of(directory)
    content = json.loads((directory / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["cat"], vocabulary["dog"] = vocabulary["dog"], vocabulary["cat"]
    (directory / "tokenizer.json").write_text(json.dumps(content))
    assert identity_of(directory).preprocessing != before.preprocessing


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "mean"},
        {"layers": (1,)},
        {"dtype": "bfloat16"},
        {"max_length": 9},
        {"options": {"truncation_side": "right"}},
    ],
)
def test_what_changes_the_features_changes_the_identity(change, checkpoint, identity_of):
    assert identity_of(checkpoint("bert"), **change) != identity_of(checkpoint("bert"))


def test_a_sharded_checkpoint(tmp_path, checkpoint, configure, texts):
    model = transformers.AutoModel.from_pretrained(checkpoint("bert"))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    checkpoints.tokenizer().save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    config = configure("huggingface", tmp_path)
    whole = make_teacher(configure("huggingface", checkpoint("bert")))
    sharded = make_teacher(config)
    features = sharded.features(sharded.prepare(texts))["pooled"]
    np.testing.assert_array_equal(features, whole.features(whole.prepare(texts))["pooled"])
    assert identify_teacher(config) == sharded.identity
    content = bytearray(shards[0].read_bytes())
    content[-1] ^= 1
    shards[0].write_bytes(content)
    assert identify_teacher(config) != sharded.identity
    shards[1].unlink()
    with pytest.raises(UsageError, match=rf"lacks {shards[1].name}. Download it again"):
        identify_teacher(config)


def test_a_hub_model_in_the_cache(cached, configure, texts):
    newest = make_teacher(configure("huggingface", cached, revision=COMMITS[1]))
    main = make_teacher(configure("huggingface", cached))
    assert newest.identity.id == main.identity.id == "huggingface/tiny/bert"
    assert [main.identity.revision, newest.identity.revision] == COMMITS
    assert newest.identity.weights_sha256 != main.identity.weights_sha256
    assert identify_teacher(configure("huggingface", cached)) == main.identity
    assert not np.array_equal(
        main.features(main.prepare(texts))["pooled"],
        newest.features(newest.prepare(texts))["pooled"],
    )


@pytest.mark.parametrize(
    ("source", "revision"),
    [("tiny/other", ""), ("tiny/bert", "a" * 40), ("/no/such/directory", ""), ("./none", "")],
)
def test_what_is_elsewhere_has_no_identity_here(source, revision, cached, configure):
    assert identify_teacher(configure("huggingface", source, revision=revision)) is None


@pytest.mark.parametrize("error", ["ConnectError", "ProxyError"])
def test_a_network_that_is_down(error, cached, configure, monkeypatch):
    """The cache serves what it has; else the message names the ways out."""
    client = hub_errors.HfHubHTTPError.__bases__[0].__module__.partition(".")[0]
    http = importlib.import_module(client)

    def fail(*args, **kwargs):
        raise getattr(http, error)("no route to host")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", fail)
    assert make_teacher(configure("huggingface", cached)).identity.revision == COMMITS[0]
    with pytest.raises(UsageError, match=r"the hub did not give it: .*the network and, for a"):
        make_teacher(configure("huggingface", "tiny/other"))


def test_trusted_code_is_part_of_the_identity(copied, identity_of):
    directory = copied("vit")
    trusted = {"trust_remote_code": True, "revision": COMMITS[0]}
    (directory / "model.py").write_text("WIDTH = 1")
    before = identity_of(directory, **trusted)
    (directory / "model.py").write_text("WIDTH = 2")
    assert identity_of(directory, **trusted).weights_sha256 != before.weights_sha256
