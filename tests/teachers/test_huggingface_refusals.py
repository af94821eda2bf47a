"""Checkpoints, and what is asked of them, that cannot be used: each message names the way out."""

import sys

import numpy as np
import pytest
import transformers

from aft_jax.errors import ConfigError, UsageError
from aft_jax.teachers import identify_teacher, make_teacher
from aft_jax.teachers.huggingface_forward import Plan, check_pooling
from tests.teachers import checkpoints
from tests.teachers.checkpoints import edit

BOTH = pytest.mark.parametrize("make", [make_teacher, identify_teacher])


@pytest.mark.parametrize("source", ["tiny/other", "nothing"])
def test_a_hub_model_that_is_not_to_be_had(source, configure):
    with pytest.raises(UsageError, match=r"the hub did not give it: .*`hf download"):
        make_teacher(configure("huggingface", source))


def test_a_missing_directory(configure):
    with pytest.raises(UsageError, match="there is no directory '/no/such/directory'"):
        make_teacher(configure("huggingface", "/no/such/directory"))


@BOTH
def test_a_directory_without_model(make, tmp_path, configure):
    with pytest.raises(UsageError, match=r"directory with a config\.json .* has none. Point"):
        make(configure("huggingface", tmp_path))


@BOTH
def test_pickled_weights_are_refused(make, copied, configure):
    directory = copied("vit")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"safetensors files only; .* has pytorch_model\.bin"):
        make(configure("huggingface", directory))


@BOTH
@pytest.mark.parametrize("trusted", ["", "main", "0123abc"])
def test_foreign_code_needs_a_commit(make, trusted, checkpoint, configure):
    config = configure("huggingface", checkpoint("vit"), trust_remote_code=True, revision=trusted)
    with pytest.raises(ConfigError, match=r"revision names the commit you have read, as 40 hex"):
        make(config)


@pytest.mark.parametrize("size", [10, 3000, -40])
def test_truncated_weights(size, copied, configure):
    path = copied("bert") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UsageError, match=r"cannot load the checkpoint .* Download or save it"):
        make_teacher(configure("huggingface", path.parent))


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("vit", "preprocessor_config.json", r"has no preprocessor_config\.json. Add the one"),
        ("bert", "tokenizer.json", r"has no tokenizer\.json. Add the one published"),
    ],
)
def test_missing_preprocessing(name, file, message, copied, configure):
    directory = copied(name)
    (directory / file).unlink()
    (directory / "tokenizer_config.json").unlink(missing_ok=True)
    with pytest.raises(UsageError, match=message):
        make_teacher(configure("huggingface", directory))


def test_damaged_preprocessing(copied, configure):
    directory = copied("bert")
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match=r"the tokenizer in .* cannot be loaded"):
        make_teacher(configure("huggingface", directory))
    directory = copied("vit")
    (directory / "preprocessor_config.json").write_text("[")
    with pytest.raises(UsageError, match=r"preprocessor_config\.json is JSON; .* Download"):
        identify_teacher(configure("huggingface", directory))


def test_an_unknown_model_type(copied, configure):
    directory = copied("vit")
    edit(directory / "config.json", model_type="from-the-future")
    with pytest.raises(UsageError, match=r"does not know needs a newer one"):
        make_teacher(configure("huggingface", directory))


def test_weights_of_another_architecture(copied, configure):
    directory = copied("bert")
    edit(directory / "config.json", num_hidden_layers=3)
    with pytest.raises(UsageError, match=r"lacks encoder\.layer\.2.*belongs to another arch"):
        make_teacher(configure("huggingface", directory))


def test_a_pooler_without_weights(tmp_path, checkpoint, configure, texts):
    """transformers would draw them at random, other features every time."""
    bert = transformers.BertModel.from_pretrained(checkpoint("bert"), add_pooling_layer=False)
    bert.save_pretrained(tmp_path)
    checkpoints.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"lacks pooler.*Set .*pooling to one of cls, mean, last"):
        make_teacher(configure("huggingface", tmp_path))
    features = []
    for source in (tmp_path, checkpoint("bert")):
        teacher = make_teacher(configure("huggingface", source, pooling="cls"))
        features.append(teacher.features(teacher.prepare(texts))["pooled"])
    np.testing.assert_array_equal(*features)


@BOTH
@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("resnet", {"pooling": "cls"}, "is one of mean, pooler, model; got 'cls'"),
        ("siglip", {"pooling": "cls"}, "is one of mean, pooler, model; got 'cls'"),
        ("gpt2", {"pooling": "pooler"}, "is one of last_token, mean; got 'pooler'"),
        ("vit", {"pooling": "max"}, "is one of cls, mean, pooler, model; got 'max'"),
        (
            *("bert", {"pooling": "pooler", "layers": (1,)}),
            r"with config\.teachers\.\*\.layers is one of cls, mean, last_token; got 'pooler'",
        ),
        ("vit", {"tower": "text"}, r"tower of .* is one of '', 'image'; got 'text'"),
        ("bert", {"tower": "both"}, r"tower of .* is one of '', 'text'; got 'both'"),
        ("bert", {"options": {"side": 1}}, "truncation_side, 'left' or 'right'; got {'side': 1}"),
    ],
)
def test_what_a_model_does_not_offer(make, name, changes, message, checkpoint, configure):
    with pytest.raises(ConfigError, match=message):
        make(configure("huggingface", checkpoint(name), **changes))


def test_layers_that_a_model_does_not_have(checkpoint, configure, texts):
    teacher = make_teacher(configure("huggingface", checkpoint("bert"), layers=(3,)))
    with pytest.raises(ConfigError, match=r"between -3 and 2, where 0 .* got \(3,\)"):
        teacher.features(teacher.prepare(texts))


def test_more_tokens_than_positions(checkpoint, configure):
    with pytest.raises(ConfigError, match=r"max_length is at most the 23 positions .* got 24"):
        make_teacher(configure("huggingface", checkpoint("roberta"), max_length=24))


def test_a_class_token_is_looked_for_in_models_that_no_table_knows():
    config = transformers.SiglipVisionConfig(
        **checkpoints.SMALL, **checkpoints.LAYERS, **checkpoints.PATCHES
    )
    model = transformers.SiglipVisionModel(config)
    with pytest.raises(ConfigError, match="without class token is one of mean, pooler, model"):
        check_pooling(model, Plan("cls", (), dual=False, encoder_decoder=False))


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package_names_the_extra(package, checkpoint, configure, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs {package}: pip install 'aft_jax\[teachers\]'"):
        make_teacher(configure("huggingface", checkpoint("vit")))
