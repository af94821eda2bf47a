import dataclasses
import importlib.util
import pathlib
import re
import sys

import pytest

from aft_jax.aot import child, compile_for, parse_widths
from aft_jax.aot.compilation import environment
from aft_jax.config import resolve
from aft_jax.errors import ConfigError, UsageError
from configs import cifar100_vit_s


def config(**changes):
    return dataclasses.replace(resolve(cifar100_vit_s.get_config()), batch_size=4096, **changes)


WIDTHS = {"dinov2_g": 1536, "clip_g": 1408}


def test_widths_are_read():
    assert parse_widths("dinov2_g=1536,clip.image=512") == {"dinov2_g": 1536, "clip.image": 512}


@pytest.mark.parametrize(
    "text", ["", "1536", "a=", "a=0", "a=-1", "a=x", "a=1,", "=3", "a=²", "a=1,a=2"]
)
def test_widths_of_another_form_are_refused(text):
    rule = f"like dinov2_g=1536,clip_g=1408; got {text!r}"
    with pytest.raises(UsageError, match=re.escape(rule)):
        parse_widths(text)


def test_unknown_chip_is_refused_before_anything_is_started():
    with pytest.raises(UsageError, match="with a chip of v4, v5e, v5p, v6e, tpu7x"):
        compile_for(config(), "a100:8", 100, WIDTHS)


@pytest.mark.parametrize(
    ("classes", "widths", "missing"), [(100, None, "--widths"), (None, WIDTHS, "--classes")]
)
def test_the_two_flags_go_together(classes, widths, missing):
    with pytest.raises(ConfigError, match=f"go together.*; got no {missing}"):
        compile_for(config(), "v5e:4x4", classes, widths)


def test_classes_are_at_least_one():
    with pytest.raises(UsageError, match="--classes is at least 1; got 0"):
        compile_for(config(), "v5e:4x4", 0, WIDTHS)


def test_without_libtpu_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'aft_jax\[tpu-aot\]'"):
        compile_for(config(), "v5e:4x4", 100, WIDTHS)


def test_a_child_that_dies_leaves_its_output(monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho the last words >&2\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UsageError, match="ended with exit status 9") as caught:
        compile_for(config(), "v5e:4x4", 100, WIDTHS)
    assert "the last words" in str(caught.value)
    kept = re.search(r"of (\S+):", str(caught.value))
    assert kept is not None
    assert pathlib.Path(kept[1]).read_text() == "the last words\n"


def test_environment_keeps_the_compiler_on_the_slice():
    outer = {"HOME": "/x", "XLA_FLAGS": "--xla_backend_optimization_level=0", "JAX_PLATFORMS": ""}
    inner = environment(outer)
    assert inner["HOME"] == "/x"
    assert "XLA_FLAGS" not in inner
    assert (inner["JAX_PLATFORMS"], inner["TPU_SKIP_MDS_QUERY"]) == ("cpu", "1")


def unreadable(config):
    raise UsageError("the data cannot be read.")


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({}, True),
        ({"inputs": {"kind": "array"}}, False),
        ({"student": {"init_from": "runs/other"}}, False),
    ],
)
def test_flags_are_named_where_they_would_do(monkeypatch, changes, hint):
    of = config()
    replaced = {key: dataclasses.replace(getattr(of, key), **new) for key, new in changes.items()}
    monkeypatch.setattr(child, "parts_of_data", unreadable)
    monkeypatch.setattr(child, "slice_devices", lambda wanted: [None])
    monkeypatch.setattr(child, "resolve", lambda _: dataclasses.replace(of, **replaced))
    nothing = dict.fromkeys(["config", "classes", "widths"])
    found = child.answer({"topology": "v5e:2x2", "methods": ["stl"], **nothing})["error"]
    assert found.startswith("the data cannot be read.")
    assert ("--classes=N" in found) == hint
