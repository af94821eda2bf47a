"""A tiny run for the trainer's tests: digits in eight steps, stores made once a session."""

import dataclasses
import pathlib
from typing import Any

import jax
import pytest

from aft_jax.config import Config, resolve
from aft_jax.features import extract
from aft_jax.training import train
from configs import digits


@pytest.fixture(autouse=True)
def every_test_trains(standard_promotion):
    """All of these take optimizer steps."""


def stage(name: str, root: pathlib.Path, **changes) -> Config:
    """One stage of the digits config in `smoke` size, with its files under `root`."""
    raw: Any = digits.get_config(f"stage={name},smoke")
    raw.features.directory = str(root / "features")
    if raw.student.init_from:
        raw.student.init_from = str(root / "pretrain")
    for teacher in raw.teachers.values():
        teacher.source = str(root / "teacher")
    return dataclasses.replace(resolve(raw), **changes)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> pathlib.Path:
    """A directory with a trained teacher, a pre-trained student and the feature stores."""
    root = tmp_path_factory.mktemp("prepared")
    with jax.numpy_dtype_promotion("standard"):
        train(stage("teacher", root), root / "teacher")
        train(stage("pretrain", root), root / "pretrain")
        extract(stage("student", root))
    return root


@pytest.fixture
def config(prepared) -> Config:
    """An AFT run of eight steps on one device, with a checkpoint every two."""
    return stage("student", prepared, batch_size=40, steps=8, devices=1)
