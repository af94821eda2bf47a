"""BERT and DistilBERT as transformers writes them.

Keys that a config.json leaves out have the defaults of transformers' config classes.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from aft_jax.students.pretrained.format import (
    Description,
    Format,
    huggingface_export,
    model_type,
)
from aft_jax.students.pretrained.names import EMBEDDING, KEY, LINEAR, NORM, QUERY, VALUE, Row

BERT_ROWS = (
    Row("embeddings.word_embeddings", "tower/embeddings/tokens", EMBEDDING),
    Row("embeddings.position_embeddings", "tower/embeddings/positions", EMBEDDING),
    Row("embeddings.token_type_embeddings", "tower/embeddings/types", EMBEDDING),
    Row("embeddings.LayerNorm", "tower/embeddings/norm", NORM),
    Row("encoder.layer.{i}.attention.self.query", "tower/blocks/attention/qkv", LINEAR, QUERY),
    Row("encoder.layer.{i}.attention.self.key", "tower/blocks/attention/qkv", LINEAR, KEY),
    Row("encoder.layer.{i}.attention.self.value", "tower/blocks/attention/qkv", LINEAR, VALUE),
    Row("encoder.layer.{i}.attention.output.dense", "tower/blocks/attention/out", LINEAR),
    Row("encoder.layer.{i}.attention.output.LayerNorm", "tower/blocks/norm1", NORM),
    Row("encoder.layer.{i}.intermediate.dense", "tower/blocks/mlp/fc1", LINEAR),
    Row("encoder.layer.{i}.output.dense", "tower/blocks/mlp/fc2", LINEAR),
    Row("encoder.layer.{i}.output.LayerNorm", "tower/blocks/norm2", NORM),
    Row("pooler.dense", "tower/pooler", LINEAR, optional=True),
)

PREFIX = "distilbert."
DISTILBERT_ROWS = (
    Row(f"{PREFIX}embeddings.word_embeddings", "tower/embeddings/tokens", EMBEDDING),
    Row(f"{PREFIX}embeddings.position_embeddings", "tower/embeddings/positions", EMBEDDING),
    Row(f"{PREFIX}embeddings.LayerNorm", "tower/embeddings/norm", NORM),
    *(
        Row(f"{PREFIX}transformer.layer.{{i}}.{theirs}", f"tower/blocks/{ours}", kind, part)
        for theirs, ours, kind, part in (
            ("attention.q_lin", "attention/qkv", LINEAR, QUERY),
            ("attention.k_lin", "attention/qkv", LINEAR, KEY),
            ("attention.v_lin", "attention/qkv", LINEAR, VALUE),
            ("attention.out_lin", "attention/out", LINEAR, None),
            ("sa_layer_norm", "norm1", NORM, None),
            ("ffn.lin1", "mlp/fc1", LINEAR, None),
            ("ffn.lin2", "mlp/fc2", LINEAR, None),
            ("output_layer_norm", "norm2", NORM, None),
        )
    ),
    Row("pre_classifier", "tower/pooler", LINEAR, optional=True),
)

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""transformers' names of the activations that our students have -> ours."""

BERT = {
    **{"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12},
    **{"num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu"},
    **{"hidden_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2},
    **{"layer_norm_eps": 1e-12, "position_embedding_type": "absolute", "is_decoder": False},
}
DISTILBERT = {
    **{"vocab_size": 30522, "dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072},
    **{"activation": "gelu", "dropout": 0.1, "max_position_embeddings": 512},
}


def _is_bert(description: Description) -> bool:
    """Files of the first years name no model type, and often no class either."""
    if "model_type" in description:
        return description["model_type"] == "bert"
    classes = description.get("architectures") or ()
    keys = {"hidden_size", "type_vocab_size"} <= description.keys()
    return keys and all(name.startswith("Bert") for name in classes)


def _bert(description: Description) -> dict[str, Any]:
    settings = BERT | dict(description)
    for key in ("position_embedding_type", "is_decoder"):
        if settings[key] != BERT[key]:
            raise ValueError(f"{key} of these students is {BERT[key]!r}; got {settings[key]!r}")
    return {
        "vocab_size": settings["vocab_size"],
        "width": settings["hidden_size"],
        "depth": settings["num_hidden_layers"],
        "heads": settings["num_attention_heads"],
        "hidden": settings["intermediate_size"],
        "positions": settings["max_position_embeddings"],
        "token_types": settings["type_vocab_size"],
        "activation": _activation("hidden_act", settings["hidden_act"]),
        "epsilon": settings["layer_norm_eps"],
        "pooler": "tanh",
        "dropout": settings["hidden_dropout_prob"],
    }


def _distilbert(description: Description) -> dict[str, Any]:
    settings = DISTILBERT | dict(description)
    return {
        "vocab_size": settings["vocab_size"],
        "width": settings["dim"],
        "depth": settings["n_layers"],
        "heads": settings["n_heads"],
        "hidden": settings["hidden_dim"],
        "positions": settings["max_position_embeddings"],
        "token_types": 0,
        "activation": _activation("activation", settings["activation"]),
        "epsilon": 1e-12,  # written in its code, not in its config
        "pooler": "relu",
        "dropout": settings["dropout"],
    }


def _activation(key: str, name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError(f"{key} is one of {', '.join(ACTIVATIONS)}; got {name!r}")
    return ACTIVATIONS[name]


def _bert_export(
    description: Description, options: Mapping[str, Any], classes: Sequence[str]
) -> dict[str, Any]:
    export = huggingface_export("BertForSequenceClassification", hidden_dropout_prob="dropout")
    return export({**description, "model_type": "bert"}, options, classes)


class DistilBertFormat(Format):
    """A format whose pooler, unlike its tower, stands outside the prefix.

    The rows hold the prefix therefore, and names without it get it.
    """

    def canonical(self, name: str, known: Container[str]) -> str:
        """A tensor's name as the rows write it; see `Format`."""
        bare = name not in known and PREFIX + name in known
        return PREFIX + name if bare else super().canonical(name, known)


FORMATS = (
    Format(
        name="transformers' BERT",
        student="bert",
        recognises=_is_bert,
        options=_bert,
        rows=BERT_ROWS,
        head=(Row("classifier", "head", LINEAR),),
        exported=_bert_export,
        prefix="bert.",
        renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
        ignored=("position_ids$", "^cls\\.", "^qa_outputs\\."),
    ),
    DistilBertFormat(
        name="transformers' DistilBERT",
        student="bert",
        recognises=model_type("distilbert"),
        options=_distilbert,
        rows=DISTILBERT_ROWS,
        head=(Row("classifier", "head", LINEAR),),
        exported=huggingface_export("DistilBertForSequenceClassification", dropout="dropout"),
        ignored=("position_ids$", "^vocab_", "^qa_outputs\\."),
    ),
)
