"""Stores become feature files of the published code, and come back bit for bit."""

import dataclasses
import logging
import pathlib
from typing import Any

import numpy as np
import pytest
import torch

from aft_jax.config import resolve
from aft_jax.config.defaults import base_config, teacher
from aft_jax.data import load_split
from aft_jax.errors import ConfigError, StoreError, UsageError
from aft_jax.features import (
    export_official,
    extract,
    import_official,
    join,
    official_export,
    open_store,
    store_path,
)
from tests.features.conftest import replace_file

WIDTH = 5
ROLES = ("train", "tune", "test")


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """23 rows to train and tune on and 7 of test, whose ids are in no order; blocks of 4 rows."""
    monkeypatch.setattr(official_export, "BATCH_ROWS", 4)
    rng = np.random.default_rng(0)
    content: dict[str, Any] = {"class_names": np.array(["a", "b"])}
    for split, rows in {"train": 23, "test": 7, "other": 6}.items():
        content[f"{split}/array"] = rng.normal(size=(rows, 3)).astype(np.float32)
        content[f"{split}/label"] = np.arange(rows, dtype=np.int32) % 2
        content[f"{split}/id"] = np.array([f"{split}{x}" for x in rng.permutation(rows)])
    np.savez(tmp_path / "data.npz", **content)
    return content


@pytest.fixture
def config(tmp_path, arrays):
    """A random teacher of the three splits; tune is carved out of train."""
    raw: Any = base_config()
    raw.data.update(name="toy", source="arrays", path=str(tmp_path / "data.npz"))
    raw.data.update(tune="", tune_fraction=0.3)
    raw.teachers.dice = teacher("random", "", options={"width": WIDTH, "seed": 1})
    raw.features.update(directory=str(tmp_path / "features"), splits=ROLES)
    return resolve(raw)


def load(file: pathlib.Path) -> dict[str, torch.Tensor]:
    """As the published code reads it: `torch.load` without more ado."""
    return torch.load(file)


def features_of(config, role):
    """The stored features of a split by the ids of its examples."""
    dataset = load_split(config.data, role)
    store = open_store(store_path(config, "dice", dataset.split))
    return dict(zip(dataset.ids.tolist(), join(store, dataset.ids).tolist(), strict=True))


@pytest.fixture
def exported(config, tmp_path):
    extract(config)
    (file,) = export_official(config, tmp_path / "out")
    return file


def test_rows_are_those_of_the_source_in_its_own_order(config, arrays, exported):
    assert exported.name == "dice_toy.pt"
    content = load(exported)
    assert set(content) == {"train", "test"}
    assert {name: x.dtype for name, x in content.items()} == {
        "train": torch.float32,
        "test": torch.float32,
    }
    by_id = features_of(config, "train") | features_of(config, "tune")
    assert content["train"].shape == (23, WIDTH)
    assert content["train"].tolist() == [by_id[name] for name in arrays["train/id"].tolist()]
    tested = features_of(config, "test")
    assert content["test"].tolist() == [tested[name] for name in arrays["test/id"].tolist()]
    assert [path.name for path in exported.parent.iterdir()] == ["dice_toy.pt"]


def test_import_undoes_export(config, exported, tmp_path):
    back = dataclasses.replace(
        config,
        teachers={"dice": resolve_teacher("imported", str(exported))},
        features=dataclasses.replace(config.features, directory=str(tmp_path / "back")),
    )
    import_official(back, str(exported), "dice")
    for role in ROLES:
        before, after = features_of(config, role), features_of(back, role)
        assert list(before) == list(after)
        assert before == after


def resolve_teacher(kind, source):
    raw: Any = base_config()
    raw.data.update(name="toy", source="arrays")
    raw.teachers.dice = teacher(kind, source)
    return resolve(raw).teachers["dice"]


def test_bfloat16_stores_are_written_in_float32(config, tmp_path):
    features = dataclasses.replace(config.features, dtype="bfloat16")
    config = dataclasses.replace(config, features=features)
    extract(config)
    (file,) = export_official(config, tmp_path / "out")
    values = load(file)["test"]
    assert values.dtype == torch.float32
    assert values.bfloat16().float().equal(values)


def test_each_part_of_a_teacher_is_a_file(config, arrays, tmp_path):
    """The published code reads one tensor per model, and multiplies those of two."""
    rng = np.random.default_rng(1)
    for split, rows in {"train": 23, "test": 7}.items():
        del arrays[f"{split}/array"]
        arrays[f"{split}/image"] = rng.integers(0, 256, (rows, 4, 4, 3), dtype=np.uint8)
        arrays[f"{split}/text"] = np.array([f"text {row}" for row in range(rows)])
    np.savez(config.data.path, **arrays)
    extract(config)
    files = export_official(config, tmp_path / "out")
    assert [file.name for file in files] == ["dice.image_toy.pt", "dice.text_toy.pt"]
    side_by_side = torch.cat([load(file)["test"] for file in files], dim=1)
    dataset = load_split(config.data, "test")
    stored = join(open_store(store_path(config, "dice", "test")), dataset.ids)
    np.testing.assert_array_equal(side_by_side, stored)


def test_a_tune_split_of_its_own_is_left_out_with_a_word(config, tmp_path, caplog):
    data = dataclasses.replace(config.data, tune="other", tune_fraction=0.0)
    config = dataclasses.replace(config, data=data)
    extract(config)
    with caplog.at_level(logging.INFO, "aft_jax"):
        (file,) = export_official(config, tmp_path / "out")
    assert "split 'other', which chooses, is a split of its own" in caplog.text
    assert len(load(file)["train"]) == 23


def test_a_missing_test_store_is_named_with_the_fix(config, tmp_path):
    features = dataclasses.replace(config.features, splits=("train", "tune"))
    extract(dataclasses.replace(config, features=features))
    message = r"that of test is missing: .*toy-test\. Run `aft-jax extract` with --config\.features"
    with pytest.raises(StoreError, match=message):
        export_official(config, tmp_path / "out")
    imported = dataclasses.replace(config.teachers["dice"], kind="imported", options={})
    with pytest.raises(StoreError, match=r"Run `aft-jax import-official` with"):
        export_official(dataclasses.replace(config, teachers={"other": imported}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_the_file_cannot_hold_is_refused(config, tmp_path):
    with pytest.raises(ConfigError, match=r"one row an image.*config\.views=2\. Set config\.views"):
        export_official(dataclasses.replace(config, views=2), tmp_path)
    with pytest.raises(ConfigError, match=r"config\.teachers is empty"):
        export_official(dataclasses.replace(config, teachers={}), tmp_path)
    extract(config)
    with pytest.raises(UsageError, match=r"--workdir is a directory that this process can write"):
        export_official(config, pathlib.Path(config.data.path))


def test_examples_without_features_are_refused(config, arrays, tmp_path):
    """A row that could not be read has no place in a file of rows by position."""
    for split, rows in {"train": 23, "test": 7}.items():
        del arrays[f"{split}/array"]
        arrays[f"{split}/text"] = np.array(
            [f"text {row}" if row != 11 else "" for row in range(rows)]
        )
    np.savez(config.data.path, **arrays)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, on_error="skip"))
    extract(config)
    with pytest.raises(StoreError, match=r"1 of 'train' cannot be read .* no features: .*row 11"):
        export_official(config, tmp_path / "out")


def test_features_that_are_no_numbers_are_refused(config, tmp_path):
    extract(config)
    path = pathlib.Path(store_path(config, "dice", "test"))
    shard = path / "features/c/0/0"
    content = bytearray(shard.read_bytes())
    content[:4] = np.float32(np.nan).tobytes()
    replace_file(path, "features/c/0/0", bytes(content))
    with pytest.raises(StoreError, match=r"features are finite; .*toy-test holds NaN"):
        export_official(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_write_that_fails_leaves_no_file_and_keeps_the_old_one(exported, config, monkeypatch):
    before = exported.read_bytes()

    def full(content, path):
        path.write_bytes(b"half")
        raise RuntimeError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StoreError, match=r"dice_toy\.pt cannot be written: no space left"):
        export_official(config, exported.parent)
    assert exported.read_bytes() == before
    assert [path.name for path in exported.parent.iterdir()] == ["dice_toy.pt"]
