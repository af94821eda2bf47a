"""BERT and DistilBERT against transformers' modules with the same weights."""

import copy

import numpy as np
import pytest
import torch

from aft_jax.students.bert import bert
from aft_jax.students.pretrained.public import public_tensors
from tests.students.pretrained.bert_checkpoints import (
    BERT,
    CONFIGS,
    DISTILBERT,
    build,
    filled,
    format_of,
    saved,
    texts,
)
from tests.students.pretrained.parity import outputs_of, relative_error, sgd_losses

OTHER = {
    **{"vocab_size": 31, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3},
    **{"hidden_act": "gelu_new", "layer_norm_eps": 1e-3, "type_vocab_size": 3},
}
DISTIL_OTHER = {
    **{"vocab_size": 31, "dim": 24, "n_layers": 1, "n_heads": 3, "activation": "relu"},
    "sinusoidal_pos_embds": True,
}
CASES = {
    "bert": ("BertForSequenceClassification", BERT),
    "bert, other sizes": ("BertForSequenceClassification", BERT | OTHER),
    "distilbert": ("DistilBertForSequenceClassification", DISTILBERT),
    "distilbert, other sizes": ("DistilBertForSequenceClassification", DISTILBERT | DISTIL_OTHER),
}
LABELS = np.array([0, 2, 1, 2])


def theirs(model, inputs):
    """(features, logits) of transformers; features are what its classifier reads."""
    batch = {name: torch.tensor(array, dtype=torch.long) for name, array in inputs.items()}
    if "Distil" in type(model).__name__:
        batch.pop("token_type_ids", None)
    read = []
    hook = model.classifier.register_forward_pre_hook(lambda _, arguments: read.extend(arguments))
    logits = model(**batch).logits
    hook.remove()
    return read[0], logits


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """(torch module, format, config.json, tensors, our module)."""
    name, settings = CASES[request.param]
    model = build(name, **settings)
    description, tensors = saved(model, tmp_path_factory.mktemp("saved"))
    form = format_of(description)
    return model, form, description, tensors, bert(3, **form.options(description))


@pytest.fixture(scope="module")
def variables(case):
    _, form, _, tensors, student = case
    return filled(student, form, tensors, with_head=True)


@pytest.mark.parametrize("segments", [True, False])
@pytest.mark.parametrize("length", [7, 16])
def test_features_and_logits(length, segments, case, variables):
    model, _, _, _, student = case
    inputs = texts(length, segments)
    with torch.no_grad():
        features, logits = theirs(model, inputs)
    ours = outputs_of(student, variables, inputs)
    assert ours.features.dtype == ours.logits.dtype == np.float32
    assert relative_error(ours.features, features) < 1e-4
    assert relative_error(ours.logits, logits) < 1e-4


def test_padding_does_not_matter_and_segments_do_where_there_are_any(case, variables):
    *_, student = case
    short, long = (outputs_of(student, variables, texts(length)) for length in (7, 16))
    assert relative_error(long.features, short.features) < 1e-6
    without = outputs_of(student, variables, texts(7, segments=False))
    changed = relative_error(without.features, short.features)
    assert (changed > 1e-3) == (student.tower.token_types > 0)


def test_the_loss_after_a_step(case, variables):
    model, _, _, _, student = case
    model, inputs = copy.deepcopy(model), texts(8)
    steps = sgd_losses(
        student, variables, inputs, model, lambda: theirs(model, inputs)[1], LABELS, rate=0.05
    )
    assert abs(steps.theirs[0] - steps.theirs[1]) > 0.01 * steps.theirs[0]
    np.testing.assert_allclose(steps.ours, steps.theirs, rtol=1e-4)


def test_the_tensors_come_back_bit_for_bit(case, variables):
    model, form, description, tensors, _ = case
    back = public_tensors(variables, form)
    assert back.keys() == tensors.keys()
    for name, array in back.items():
        np.testing.assert_array_equal(array, tensors[name].values)
    config = form.exported(description, form.options(description), ["no", "maybe", "yes"])
    family = {"bert": "Bert", "distilbert": "DistilBert"}[config["model_type"]]
    assert config["architectures"] == [type(model).__name__]
    fresh = type(model)(CONFIGS[family].from_dict(config))
    fresh.load_state_dict({name: torch.tensor(array) for name, array in back.items()}, strict=True)
    assert fresh.config.id2label == {0: "no", 1: "maybe", 2: "yes"}
