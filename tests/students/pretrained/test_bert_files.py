"""The ways that BERT and DistilBERT are written down: classes, old files, what is refused."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from transformers.activations import ACT2FN

from aft_jax.errors import UsageError
from aft_jax.students.bert import bert
from aft_jax.students.layers.transformer import ACTIVATIONS
from aft_jax.students.pretrained.bert_huggingface import FORMATS
from aft_jax.students.pretrained.public import public_tensors
from aft_jax.students.student import from_linen, parameter_count
from tests.students.pretrained.bert_checkpoints import (
    BERT,
    CONFIGS,
    DISTILBERT,
    build,
    filled,
    format_of,
    saved,
    texts,
    torch_batch,
)
from tests.students.pretrained.parity import (
    Stored,
    outputs_of,
    perturbed,
    relative_error,
    tensors_of,
    variables_of,
)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["BertModel", "BertForPreTraining"])
def test_other_classes_of_bert(name, tmp_path):
    model = build(name, **BERT)
    description, tensors = saved(model, tmp_path)
    form = format_of(description)
    student = bert(3, **form.options(description))
    variables = filled(student, form, tensors)
    wanted = getattr(model, "bert", model)(**torch_batch(8)).pooler_output
    assert relative_error(outputs_of(student, variables, texts(8)).features, wanted) < 1e-4
    check_export(model, form, description, variables)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["DistilBertModel", "DistilBertForMaskedLM"])
def test_other_classes_of_distilbert_lack_the_pooler(name, tmp_path):
    model = build(name, **DISTILBERT)
    description, tensors = saved(model, tmp_path)
    form = format_of(description)
    student = bert(3, **form.options(description))
    variables = filled(student, form, tensors)
    batch = torch_batch(8, segments=False)
    first = getattr(model, "distilbert", model)(**batch).last_hidden_state[:, 0].numpy()
    dense = jax.tree.map(np.asarray, variables["params"]["tower"]["pooler"])
    wanted = np.maximum(first @ dense["kernel"] + dense["bias"], 0)
    assert relative_error(outputs_of(student, variables, texts(8)).features, wanted) < 1e-4
    check_export(model, form, description, variables)


def check_export(model, form, description, variables):
    """What is written is all that the class with a classifier reads."""
    config = form.exported(description, form.options(description), ["no", "maybe", "yes"])
    whole = getattr(transformers, config["architectures"][0])(type(model.config).from_dict(config))
    back = {key: torch.tensor(array) for key, array in public_tensors(variables, form).items()}
    whole.load_state_dict(back, strict=True)


def test_a_checkpoint_without_pooler_keeps_the_random_one(tmp_path, caplog):
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(**BERT), add_pooling_layer=False)
    description, tensors = saved(perturbed(model), tmp_path)
    form = format_of(description)
    student = bert(3, **form.options(description))
    with caplog.at_level(logging.INFO):
        variables = filled(student, form, tensors)
    assert "has no pooler.dense.bias, pooler.dense.weight: they start from random" in caplog.text
    random = variables_of(student, texts(8))["params"]["tower"]
    tower = variables["params"]["tower"]
    np.testing.assert_array_equal(tower["pooler"]["kernel"], random["pooler"]["kernel"])
    assert np.any(
        tower["blocks"]["mlp"]["fc1"]["kernel"] != random["blocks"]["mlp"]["fc1"]["kernel"]
    )


def test_files_of_the_first_years():
    model = build("BertForPreTraining", **BERT)
    # Names ended in gamma and beta, positions were numbered, and config.json named no model type.
    names = {".weight": ".gamma", ".bias": ".beta"}
    tensors = {"bert.embeddings.position_ids": Stored(np.arange(16)[None])}
    for name, tensor in tensors_of(model).items():
        for new, old in names.items():
            if name.endswith("LayerNorm" + new):
                name = name.removesuffix(new) + old
        tensors[name] = tensor
    assert "bert.embeddings.LayerNorm.gamma" in tensors
    description = {key: getattr(model.config, key) for key in BERT if key != "num_labels"}
    description |= {"type_vocab_size": 2, "hidden_act": "gelu"}
    form = format_of(description)
    student = bert(3, **form.options(description))
    variables = filled(student, form, tensors)
    with torch.no_grad():
        wanted = model.bert(**torch_batch(8)).pooler_output
    assert relative_error(outputs_of(student, variables, texts(8)).features, wanted) < 1e-4
    assert "bert.embeddings.LayerNorm.weight" in public_tensors(variables, form)
    config = form.exported(description, form.options(description), ["no", "yes"])
    assert config["model_type"] == "bert"
    assert config["id2label"] == {"0": "no", "1": "yes"}


@pytest.mark.parametrize(
    "description",
    [
        {"model_type": "roberta", "hidden_size": 8, "type_vocab_size": 1},
        {"architectures": ["RobertaForMaskedLM"], "hidden_size": 8, "type_vocab_size": 1},
        {"model_type": "deberta", "hidden_size": 8, "type_vocab_size": 0},
        {"architecture": "vit_base_patch16_224"},
        {},
    ],
)
def test_what_is_none_of_these(description):
    assert not any(form.recognises(description) for form in FORMATS)


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
def test_the_names_of_activations(name):
    # The two forms of GELU differ by less than a whole network shows.
    x = np.linspace(-4, 4, 101, dtype=np.float32)
    wanted = ACT2FN[name](torch.tensor(x)).numpy()
    for description in (
        {"model_type": "bert", "hidden_act": name},
        {"model_type": "distilbert", "activation": name},
    ):
        ours = ACTIVATIONS[format_of(description).options(description)["activation"]]
        np.testing.assert_allclose(ours(jnp.asarray(x)), wanted, atol=2e-6)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (
            {"model_type": "bert", "position_embedding_type": "relative_key"},
            r"position_embedding_type of these students is 'absolute'; got 'relative_key'",
        ),
        (
            {"model_type": "bert", "is_decoder": True},
            r"is_decoder of these students is False; got True",
        ),
        (
            {"model_type": "bert", "hidden_act": "silu"},
            r"hidden_act is one of gelu, gelu_new, gelu_pytorch_tanh, relu; got 'silu'",
        ),
        (
            {"model_type": "distilbert", "activation": "silu"},
            r"activation is one of gelu, gelu_new, gelu_pytorch_tanh, relu; got 'silu'",
        ),
    ],
)
def test_models_that_ours_are_not(description, message):
    with pytest.raises(ValueError, match=message):
        format_of(description).options(description)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Bert", {}),
        ("Bert", {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8}),
        ("DistilBert", {}),
    ],
)
def test_the_published_sizes(name, settings):
    config = CONFIGS[name](**settings, num_labels=5)
    with torch.device("meta"):
        model = getattr(transformers, f"{name}ForSequenceClassification")(config)
    # Only what differs from the defaults stands in a config.json.
    description = {"model_type": config.model_type, **settings}
    student = bert(5, **format_of(description).options(description))
    shapes = jax.eval_shape(from_linen(student).init, jax.random.key(0), texts(8))
    assert parameter_count(shapes) == sum(parameter.numel() for parameter in model.parameters())


def test_weights_of_another_size(tmp_path):
    description, tensors = saved(build("BertModel", **BERT), tmp_path)
    form = format_of(description)
    options = form.options(description) | {"positions": 9}
    message = r"mis-shaped: embeddings\.position_embeddings\.weight \(16, 32\) instead of \(9, 32\)"
    with pytest.raises(UsageError, match=message):
        filled(bert(3, **options), form, tensors)
