"""How long an extraction took: kept with the store, unknown where nobody measured it."""

import itertools
import json
import time

import pytest

from aft_jax.errors import StoreError
from aft_jax.features import extract, open_store, read_manifest, store_path
from tests.features.conftest import edit_manifest


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass with every look at them: 0, 1, 2, ..."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))


def markers(store):
    return {path.name: json.loads(path.read_text()) for path in sorted(store.glob("done/*"))}


def test_the_seconds_of_all_shards_are_added_up(run, toy, tmp_path, clock):
    """One look when the work begins and one at the end of each of four shards."""
    extract(run, {"toy": toy().teacher})
    path = store_path(run, "toy", "train")
    assert read_manifest(path).extraction_seconds == 4.0
    written = markers(tmp_path / "features/toy/toy-train")
    assert [marker["seconds"] for marker in written.values()] == [1.0] * 4


def test_an_interrupted_extraction_counts_what_it_finished(run, toy, clock):
    path = store_path(run, "toy", "train")
    with pytest.raises(KeyboardInterrupt, match="killed"):
        extract(run, {"toy": toy(fail_after=3).teacher})
    extract(run, {"toy": toy().teacher})
    assert read_manifest(path).extraction_seconds == 4.0


def test_a_shard_that_nobody_timed_leaves_the_whole_unknown(run, toy, tmp_path):
    """As a version before wrote it."""
    extract(run, {"toy": toy().teacher})
    store = tmp_path / "features/toy/toy-train"
    (store / "manifest.json").unlink()
    marker = store / "done/00002.json"
    fields = json.loads(marker.read_text())
    del fields["seconds"]
    marker.write_text(json.dumps(fields))
    extract(run, {"toy": toy().teacher})
    assert read_manifest(str(store)).extraction_seconds is None
    assert "extraction_seconds" not in json.loads((store / "manifest.json").read_text())


def test_imported_features_took_no_teacher(store, expected):
    assert read_manifest(str(store)).extraction_seconds is None
    assert open_store(str(store), expected).manifest.extraction_seconds is None


def test_the_time_is_under_the_own_hash(store):
    edit_manifest(store, extraction_seconds=1.5)
    assert read_manifest(str(store)).extraction_seconds == 1.5
    manifest = store / "manifest.json"
    manifest.write_text(manifest.read_text().replace("1.5", "2.5"))
    with pytest.raises(StoreError, match="manifest_sha256 is"):
        read_manifest(str(store))


@pytest.mark.parametrize("value", [None, "1.5", [1.5], True])
def test_a_time_that_is_no_number_is_refused(store, value):
    edit_manifest(store, extraction_seconds=value)
    with pytest.raises(StoreError, match="extraction_seconds is of type"):
        read_manifest(str(store))


@pytest.mark.parametrize("value", ['"soon"', "null", "3"])
def test_a_marker_with_another_time_is_refused(run, toy, tmp_path, value):
    extract(run, {"toy": toy().teacher})
    store = tmp_path / "features/toy/toy-train"
    (store / "manifest.json").unlink()
    marker = store / "done/00001.json"
    fields = json.loads(marker.read_text()) | {"seconds": json.loads(value)}
    marker.write_text(json.dumps(fields))
    with pytest.raises(StoreError, match=r"done/00001\.json does not\. Delete that file"):
        extract(run, {"toy": toy().teacher})
