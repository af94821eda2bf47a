"""Feature files of the published code become stores, by the ids of the data set they came from."""

import dataclasses

import numpy as np
import pytest
import torch

from aft_jax.data import take
from aft_jax.errors import ConfigError, StoreError
from aft_jax.features import import_official, join, open_store, verify
from aft_jax.files import sha256_of
from tests.features.conftest import make_dataset, serve


@pytest.fixture
def whole(monkeypatch):
    """Ten rows, of which a run trains on seven and tunes on three."""
    whole = make_dataset(10)
    rest = take(whole, np.array([0, 1, 3, 4, 6, 7, 9]), split="train-rest0.7")
    tune = take(whole, np.array([2, 5, 8]), split="train-tune0.3")
    serve(monkeypatch, {"train": rest, "tune": tune})
    monkeypatch.setattr("aft_jax.features.official.load_uncarved", lambda _: whole)
    return whole


@pytest.fixture
def file(tmp_path):
    """A file as `torch.save` writes it."""
    features = torch.arange(30, dtype=torch.float32).reshape(10, 3)
    path = tmp_path / "dino.pt"
    torch.save({"train": features, "test": features[:4]}, path)
    return path


@pytest.fixture
def imported(run, file):
    """A run whose only teacher is the file; tune is carved out of train."""
    entry = dataclasses.replace(run.teachers["toy"], kind="imported", source=str(file))
    data = dataclasses.replace(run.data, tune="", tune_fraction=0.3)
    return dataclasses.replace(run, data=data, teachers={"toy": entry})


def test_rows_follow_the_source_and_are_found_by_id(imported, file, whole):
    stores = import_official(imported, str(file), "toy")
    assert [path.rpartition("/")[2] for path in stores] == [
        "toy-train-rest0.7",
        "toy-train-tune0.3",
    ]
    train, tune = (open_store(path, {}) for path in stores)
    expected = np.arange(30, dtype=np.float32).reshape(10, 3)
    np.testing.assert_array_equal(join(tune, whole.ids[[8, 2, 5]]), expected[[8, 2, 5]])
    np.testing.assert_array_equal(join(train, whole.ids[[9, 0]]), expected[[9, 0]])
    assert train.manifest.teacher_id == "imported/dino.pt"
    assert train.manifest.teacher_weights_sha256 == sha256_of(file)
    assert train.manifest.preprocessing == "imported from an official feature file"
    lines = verify(imported)
    assert "no row recomputed: they were imported" in lines[0]


def test_another_file_is_another_teacher(imported, file, whole):
    import_official(imported, str(file), "toy")
    features = torch.ones(10, 3)
    torch.save({"train": features, "test": features}, file)
    with pytest.raises(StoreError, match="teacher_weights_sha256: the store has"):
        verify(imported)


def test_a_second_time_changes_nothing_and_another_file_is_refused(imported, file, whole):
    stores = import_official(imported, str(file), "toy")
    assert import_official(imported, str(file), "toy") == stores
    torch.save({"train": torch.ones(10, 3), "test": torch.ones(4, 3)}, file)
    with pytest.raises(StoreError, match="teacher_weights_sha256: the store has"):
        import_official(imported, str(file), "toy")


def test_an_npz_of_the_same_arrays(imported, tmp_path, whole):
    features = np.arange(30, dtype=np.float32).reshape(10, 3)
    # Files that B-Tuning was prepared with hold scores too.
    np.savez(tmp_path / "dino.npz", train=features, test=features, logme_score=0.5)
    path, _ = import_official(imported, str(tmp_path / "dino.npz"), "toy")
    assert join(open_store(path, {}), whole.ids[[9]]).tolist() == [[27.0, 28.0, 29.0]]


def test_a_tune_split_of_its_own_is_not_in_the_file(imported, file, whole):
    data = dataclasses.replace(imported.data, tune="validation", tune_fraction=0.0)
    stores = import_official(dataclasses.replace(imported, data=data), str(file), "toy")
    assert len(stores) == 1


def test_half_precision(imported, file, whole):
    features = torch.arange(30).reshape(10, 3).to(torch.float16)
    torch.save({"train": features, "test": features}, file)
    path, _ = import_official(imported, str(file), "toy")
    assert join(open_store(path, {}), whole.ids[[9]]).tolist() == [[27.0, 28.0, 29.0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"train": torch.ones(9, 3), "test": torch.ones(4, 3)},
            "has 9 rows, toy/task train has 10",
        ),
        ({"train": torch.ones(10, 3)}, r"hold \"train\" and \"test\"; .* holds \['train'\]"),
        (torch.ones(10, 3), "holds Tensor"),
        ({"train": torch.ones(10), "test": torch.ones(4, 3)}, r"'train' holds floats"),
        ({"train": torch.ones(10, 3), "test": 3}, "'test' holds floats .* holds int"),
        (
            {"train": torch.full((10, 3), torch.nan), "test": torch.ones(4, 3)},
            "features are finite in float32; the teacher gave NaN",
        ),
        ({"train": torch.ones(10, 3), "test": dataclasses}, "Nothing that a file could run is run"),
        (None, "cannot be read as such"),
    ],
)
def test_other_files_are_refused(imported, file, whole, content, message):
    if content is None:
        file.write_text("no tensors")
    elif isinstance(content, dict) and content.get("test") is dataclasses:
        # What only unpickling with code could read: a class of another module.
        torch.save({"train": content["train"], "test": ToBeRun()}, file)
    else:
        torch.save(content, file)
    with pytest.raises(StoreError, match=message):
        import_official(imported, str(file), "toy")


class ToBeRun:
    """An object that a feature file has no business to hold."""


def test_what_is_not_there_or_not_asked_for(imported, run, file, whole, tmp_path):
    with pytest.raises(StoreError, match=r"there is none at .*nothing\.pt"):
        import_official(imported, str(tmp_path / "nothing.pt"), "toy")
    with pytest.raises(ConfigError, match=r"config\.teachers\.toy has kind 'flax'\. Set"):
        import_official(run, str(file), "toy")
    with pytest.raises(ConfigError, match=r"config\.teachers\.other is not there"):
        import_official(imported, str(file), "other")
    with pytest.raises(ConfigError, match=r"config\.views=2\. Set config\.views=0"):
        import_official(dataclasses.replace(imported, views=2), str(file), "toy")


def test_the_test_rows_become_a_store_where_the_config_asks_for_it(
    imported, file, whole, monkeypatch
):
    test = make_dataset(4, split="test")
    tensors = torch.arange(30, 72, dtype=torch.float32).split((30, 12))
    names = {"train": tensors[0].reshape(10, 3), "test": tensors[1].reshape(4, 3)}
    torch.save(names, file)
    splits = dataclasses.replace(imported.features, splits=("train", "tune", "test"))
    config = dataclasses.replace(imported, features=splits)
    rest = take(whole, np.array([0, 1, 3, 4, 6, 7, 9]), split="train-rest0.7")
    tune = take(whole, np.array([2, 5, 8]), split="train-tune0.3")
    serve(monkeypatch, {"train": rest, "tune": tune, "test": test})
    stores = import_official(config, str(file), "toy")
    assert [path.rpartition("/")[2] for path in stores][2:] == ["toy-test"]
    expected = np.arange(60, 72, dtype=np.float32).reshape(4, 3)
    found = join(open_store(stores[2], {}), test.ids[[3, 0]])
    np.testing.assert_array_equal(found, expected[[3, 0]])
    serve(monkeypatch, {"train": rest, "tune": tune, "test": make_dataset(5, split="test")})
    with pytest.raises(
        StoreError, match=r'"test" has one row for each example .* has 4 rows, .* 5'
    ):
        import_official(config, str(file), "toy")


def test_what_is_imported_may_be_skipped_later(imported, file, whole):
    """The config that reads the stores can write them too."""
    features = dataclasses.replace(imported.features, missing="skip")
    config = dataclasses.replace(imported, features=features)
    stores = import_official(config, str(file), "toy")
    assert import_official(config, str(file), "toy") == stores
    assert open_store(stores[0], {}).manifest.dataset_rows == 7
