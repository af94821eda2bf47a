"""Tiny BERT and DistilBERT models as transformers writes them, and texts for them."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

from aft_jax.students.pretrained.format import Format
from aft_jax.students.pretrained.formats import FORMATS
from aft_jax.students.pretrained.public import load_public
from aft_jax.teachers.huggingface_inputs import hide_broken_torchvision
from aft_jax.types import PyTree
from tests.students.pretrained.parity import Stored, perturbed, variables_of

hide_broken_torchvision()

BERT: dict[str, Any] = {
    **{"vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"intermediate_size": 48, "max_position_embeddings": 16, "num_labels": 3},
    **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
DISTILBERT: dict[str, Any] = {
    **{"vocab_size": 20, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    **{"max_position_embeddings": 16, "num_labels": 3, "dropout": 0.0},
    **{"attention_dropout": 0.0, "seq_classif_dropout": 0.0},
}
CONFIGS = {"Bert": transformers.BertConfig, "DistilBert": transformers.DistilBertConfig}
LENGTHS = np.array([7, 3, 5, 1])


def texts(length: int, segments: bool = True) -> dict[str, np.ndarray]:
    """Texts of `LENGTHS` with padding up to a length."""
    rng = np.random.default_rng(0)
    real = np.arange(length)[None] < LENGTHS[:, None]
    # A real token is never the padding's: torch keeps that row's gradient zero.
    ids = np.pad(rng.integers(1, 20, (len(LENGTHS), 7)), ((0, 0), (0, length - 7)))
    types = np.pad(rng.integers(0, 2, (len(LENGTHS), 7)), ((0, 0), (0, length - 7)))
    batch = {"input_ids": np.where(real, ids, 0), "attention_mask": real}
    batch |= {"token_type_ids": np.where(real, types, 0)} if segments else {}
    return {name: array.astype(np.int32) for name, array in batch.items()}


def torch_batch(length: int, segments: bool = True) -> dict[str, torch.Tensor]:
    """The same texts for torch."""
    batch = texts(length, segments).items()
    return {name: torch.tensor(array, dtype=torch.long) for name, array in batch}


def build(name: str, **settings: Any) -> Any:
    """A module of transformers: "BertModel"."""
    family = "DistilBert" if name.startswith("Distil") else "Bert"
    torch.manual_seed(0)
    return perturbed(getattr(transformers, name)(CONFIGS[family](**settings)))


def saved(model: Any, directory: pathlib.Path) -> tuple[dict[str, Any], dict[str, Stored]]:
    """What transformers writes: config.json and tensors."""
    model.save_pretrained(directory)
    tensors = load_file(directory / "model.safetensors")
    description = json.loads((directory / "config.json").read_text())
    return description, {name: Stored(array) for name, array in tensors.items()}


def filled(
    student: Any, form: Format, tensors: Mapping[str, Stored], with_head: bool = False
) -> PyTree:
    """The student's variables, with a checkpoint's weights."""
    return load_public(tensors, form, variables_of(student, texts(8)), "here", with_head)


def format_of(description: Mapping[str, Any]) -> Format:
    """The only one that recognises it."""
    found = [form for form in FORMATS.values() if form.recognises(description)]
    assert len(found) == 1
    return found[0]
