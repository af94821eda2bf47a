"""The `list` verb's functions: every store below a directory, whatever state it is in."""

import pytest

from aft_jax.errors import StoreError
from aft_jax.features import extract, format_stores, list_stores
from aft_jax.features.kv import Directory


def test_stores_are_listed_with_their_state(run, toy, tmp_path):
    root = tmp_path / "features"
    extract(run, {"toy": toy().teacher})
    train, tune = root / "toy/toy-train", root / "toy/toy-tune"
    (train / "manifest.json").unlink()
    (train / "done/00002.json").unlink()
    (tune / "plan.json").unlink()  # not read again once the manifest is there
    (root / "toy/other").mkdir()
    (root / "toy/other/manifest.json").write_text('{"format_version": 3}')
    other, first, second = list_stores(str(root))
    assert (other.path, other.teacher) == (f"{root}/toy/other", "")
    assert other.state.startswith("unreadable: format_version of ")
    assert first[:8] == (
        *(str(train), "toy/teacher", "toy/task", "train", 10, 3, "float32"),
        pytest.approx(120 / 2**20),
    )
    assert (first.state, second.state) == ("half-written, 3 of 4 shards", "complete")
    lines = format_stores([first, second]).splitlines()
    assert lines[0].split() == [
        *("store", "teacher", "data", "set", "split", "rows", "width", "dtype", "MiB", "state"),
    ]
    assert lines[2].split()[-6:] == [*("tune", "4", "3", "float32", "0.0", "complete")]


def test_a_directory_without_stores(tmp_path):
    assert list_stores(str(tmp_path / "none")) == []


def test_a_directory_that_cannot_be_read():
    with pytest.raises(StoreError, match="unknown://x cannot be listed"):
        list_stores("unknown://x")


def test_a_store_that_lost_a_shard_is_listed_as_damaged(run, toy):
    path = extract(run, {"toy": toy().teacher})[0]
    local = Directory(path).local
    assert local is not None
    (local / "features/c/0/0").unlink()
    states = {record.path: record.state for record in list_stores(run.features.directory)}
    assert states[path] == "damaged, 1 files missing"
