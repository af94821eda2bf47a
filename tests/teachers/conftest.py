"""Checkpoints that are built once."""

import shutil

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers

from aft_jax.config import TeacherConfig
from aft_jax.config.defaults import teacher
from tests.teachers import checkpoints

torch.set_num_threads(1)  # tiny models wait for each other longer than they compute


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Architecture -> the directory of its checkpoint."""
    directory = tmp_path_factory.mktemp("checkpoints")
    transformers.utils.logging.disable_progress_bar()

    def build(name):
        if not (directory / name).exists():
            checkpoints.save(name, directory / name)
        return directory / name

    return build


@pytest.fixture
def copied(checkpoint, tmp_path):
    """Architecture -> a copy of its checkpoint, to be changed."""

    def copy(name):
        return shutil.copytree(checkpoint(name), tmp_path / name)

    return copy


@pytest.fixture
def raw(checkpoint):
    """Architecture -> its model, loaded without our code."""

    def load(name, auto=transformers.AutoModel):
        return auto.from_pretrained(checkpoint(name)).eval()

    return load


@pytest.fixture
def configure():
    """Kind, source and what else is set -> the config."""

    def build(kind, source, **changes):
        return TeacherConfig(**teacher(kind, str(source), **changes))

    return build


@pytest.fixture
def images():
    """Five images of odd sizes, as examples."""
    rng = np.random.default_rng(0)
    sizes = [(16, 16), (23, 31), (40, 17), (9, 12), (64, 50)]
    return [{"image": rng.integers(0, 256, (*size, 3), dtype=np.uint8)} for size in sizes]


@pytest.fixture
def texts():
    """Five texts of different lengths, one with a word that no vocabulary has, as examples."""
    lines = ["the cat sat", "a red dog ran to the house", "mat", "the zebra", "cat and dog"]
    return [{"text": line} for line in lines]
