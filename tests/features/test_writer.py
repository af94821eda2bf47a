"""Writing a feature store: whole or not at all, and only what a reader may believe."""

import collections
import dataclasses

import ml_dtypes
import numpy as np
import pytest

from aft_jax.errors import StoreError
from aft_jax.features import describe, describe_teacher, open_store, write_store, writer


def write(path, dataset, batches, expected, width=3):
    return write_store(path, dataset.ids, batches, width, teacher_parameters=9, **expected)


def test_a_killed_writer_leaves_nothing_to_read(tmp_path, dataset, features, expected):
    def killed():
        yield features[:4]
        raise KeyboardInterrupt("killed")

    store = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt, match="killed"):
        write(store, dataset, killed(), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["store.partial"]
    with pytest.raises(StoreError, match=r"complete feature store has a manifest.json.*has none"):
        open_store(store, expected)
    with pytest.raises(StoreError, match=r"complete feature store has a manifest.json.*has none"):
        open_store(tmp_path / "store.partial", expected)
    write(store, dataset, [features], expected)
    np.testing.assert_array_equal(open_store(store, expected).features, features)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize(
    "changes", [{"dataset_rows": 8}, {"dataset_ids_sha256": "0" * 64}], ids=["rows", "digest"]
)
def test_a_description_that_contradicts_the_ids_is_refused(
    tmp_path, dataset, features, expected, changes
):
    (field,) = changes
    with pytest.raises(StoreError, match=f"{field} was given as .*, the ids have "):
        write(tmp_path / "store", dataset, [features], expected | changes)


def test_ids_that_repeat_are_refused(tmp_path, features, identity, subset):
    repeated = subset([0, 1, 2, 3, 4, 5, 0])
    message = f"ids are unique; '{repeated.ids[0]}' and 0 others repeat"
    with pytest.raises(StoreError, match=message):
        write(
            tmp_path / "store",
            repeated,
            [features],
            describe(repeated) | describe_teacher(identity),
        )


def test_an_id_over_two_lines_is_refused(tmp_path, dataset, features, identity):
    ids = np.array(["a\nb", *dataset.ids[1:]])
    described = describe(dataclasses.replace(dataset, ids=ids)) | describe_teacher(identity)
    with pytest.raises(StoreError, match=r"one a line; 'a\\nb' has a line break"):
        write_store(tmp_path / "store", ids, [features], 3, teacher_parameters=9, **described)
    assert not any(tmp_path.iterdir())


def test_ids_come_back_as_they_went_in(tmp_path, features, dataset, identity):
    ids = np.array(["", " a ", "b\rc", "d\u2028e", "f\x0b", "ü", "g,h"])
    described = describe(dataclasses.replace(dataset, ids=ids)) | describe_teacher(identity)
    write_store(tmp_path / "store", ids, [features], 3, teacher_parameters=9, **described)
    assert open_store(tmp_path / "store", described).ids.tolist() == ids.tolist()


def test_a_split_without_examples_is_refused(tmp_path, identity, subset):
    empty = subset(np.zeros(0, int))
    described = describe(empty) | describe_teacher(identity)
    with pytest.raises(StoreError, match="at least one example; the split is empty"):
        write(tmp_path / "store", empty, [], described)
    assert not any(tmp_path.iterdir())


def test_rows_and_digest_follow_from_the_ids(tmp_path, dataset, features, expected):
    told = {
        name: expected[name]
        for name in expected
        if name not in ("dataset_rows", "dataset_ids_sha256")
    }
    write(tmp_path / "store", dataset, [features], told)
    open_store(tmp_path / "store", expected)


def test_a_shard_is_written_once(tmp_path, dataset, identity, monkeypatch):
    """Adding to a shard writes all of it again: many small batches would cost its square."""
    monkeypatch.setattr(writer, "CHUNK_ROWS", 4)
    monkeypatch.setattr(writer, "SHARD_ROWS", 8)
    rows, versions = 21, collections.defaultdict(set)
    ids = np.array([f"id-{row}" for row in range(rows)])
    features = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)

    def batches():
        for start in range(0, rows, 3):
            yield features[start : start + 3]
            for shard in (tmp_path / "store.partial/features/c").glob("*/0"):
                versions[shard.parent.name].add((shard.stat().st_ino, shard.stat().st_mtime_ns))

    described = describe(dataclasses.replace(dataset, ids=ids)) | describe_teacher(identity)
    write_store(tmp_path / "store", ids, batches(), 2, teacher_parameters=9, **described)
    np.testing.assert_array_equal(open_store(tmp_path / "store", described).features, features)
    assert {name: len(found) for name, found in versions.items()} == {"0": 1, "1": 1}


def test_features_in_half_precision_are_stored_in_float32(tmp_path, dataset, features, expected):
    half = features.astype(ml_dtypes.bfloat16)
    write(tmp_path / "store", dataset, [half], expected)
    opened = open_store(tmp_path / "store", expected)
    assert opened.features.dtype == np.float32
    np.testing.assert_array_equal(opened.features, half.astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(tmp_path, dataset, features, expected, value):
    features = features.copy()
    features[5, 1] = value
    message = f"NaN or infinity for example '{dataset.ids[5]}' and 0 others in its batch"
    with pytest.raises(StoreError, match=message):
        write(tmp_path / "store", dataset, [features[:4], features[4:]], expected)
    assert not (tmp_path / "store").exists()


def test_features_beyond_float32_are_refused(tmp_path, dataset, features, expected):
    features = features.astype(np.float64)
    features[5, 1] = 1e300
    with pytest.raises(StoreError, match=r"features are finite in float32; .* and 0 others"):
        write(tmp_path / "store", dataset, [features], expected)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([(4, 3)], "one row an example; got 4 rows for 7 ids"),
        ([], "one row an example; got 0 rows for 7 ids"),
        ([(4, 3), (4, 3)], r"shape \(7, 3\); rows 4 to 8 came with shape \(4, 3\)"),
        ([(7, 2)], r"shape \(7, 3\); rows 0 to 7 came with shape \(7, 2\)"),
        ([(7,)], r"shape \(7, 3\); rows 0 to 7 came with shape \(7,\)"),
        ([(7, 3, 1)], r"shape \(7, 3\); rows 0 to 7 came with shape \(7, 3, 1\)"),
    ],
)
def test_batches_that_do_not_add_up_are_refused(tmp_path, dataset, expected, batches, message):
    with pytest.raises(StoreError, match=message):
        write(tmp_path / "store", dataset, [np.ones(s, np.float32) for s in batches], expected)
    assert not (tmp_path / "store").exists()


def test_a_store_is_written_once(store, dataset, features, expected):
    with pytest.raises(StoreError, match=r"written once; .*/store exists\. Delete it"):
        write(store, dataset, [features + 1], expected)
    np.testing.assert_array_equal(open_store(store, expected).features, features)
