"""Writing a feature store: whole or not at all, and only what a reader may believe."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from aft_jax.data import take
from aft_jax.errors import StoreError
from aft_jax.features import describe, describe_teacher, join, open_store, shards, write_store


def write(path, dataset, batches, expected, width=3):
    return write_store(str(path), dataset.ids, batches, width, teacher_parameters=9, **expected)


def names(path):
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


def test_a_killed_writer_leaves_nothing_to_read(
    tmp_path, dataset, features, expected, small_shards
):
    def killed():
        yield features[:4]
        raise KeyboardInterrupt("killed")

    store = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt, match="killed"):
        write(store, dataset, killed(), expected)
    assert names(store) == ["done/00000.json", "features/c/0/0", "plan.json"]
    with pytest.raises(StoreError, match="half-written: 1 of 3 shards are done"):
        open_store(str(store), expected)
    write(store, dataset, [features], expected)
    np.testing.assert_array_equal(join(open_store(str(store), expected), dataset.ids), features)


@pytest.mark.parametrize("name", ["plan.json", "features/c/1/0", "done/00001.json", "ids.txt"])
def test_without_the_manifest_any_prefix_of_the_files_is_no_store(store, expected, name):
    """The manifest is what makes it one; all else is written before."""
    (store / "manifest.json").unlink()
    (store / name).unlink()
    with pytest.raises(StoreError, match=r"half-written: |holds no store"):
        open_store(str(store), expected)


@pytest.mark.parametrize(
    "changes", [{"dataset_rows": 8}, {"dataset_ids_sha256": "0" * 64}], ids=["rows", "digest"]
)
def test_a_description_that_contradicts_the_ids_is_refused(
    tmp_path, dataset, features, expected, changes
):
    (field,) = changes
    with pytest.raises(StoreError, match=f"{field} was given as .*, the ids have "):
        write(tmp_path / "store", dataset, [features], expected | changes)


def test_ids_that_repeat_are_refused(tmp_path, features, identity, dataset):
    repeated = take(dataset, np.array([0, 1, 2, 3, 4, 5, 0]))
    described = describe(repeated) | describe_teacher(identity)
    message = f"ids are unique; '{repeated.ids[0]}' and 0 others repeat"
    with pytest.raises(StoreError, match=message):
        write(tmp_path / "store", repeated, [features], described)


def test_an_id_over_two_lines_is_refused(tmp_path, dataset, features, identity):
    broken = dataclasses.replace(dataset, ids=np.array(["a\nb", *dataset.ids[1:]]))
    described = describe(broken) | describe_teacher(identity)
    with pytest.raises(StoreError, match=r"one a line; 'a\\nb' has a line break"):
        write(tmp_path / "store", broken, [features], described)
    assert not any(tmp_path.iterdir())


def test_ids_come_back_as_they_went_in(tmp_path, features, dataset, identity):
    ids = np.array(["", " a ", "b\rc", "d\u2028e", "f\x0b", "ü", "g,h"])
    odd = dataclasses.replace(dataset, ids=ids)
    described = describe(odd) | describe_teacher(identity)
    write(tmp_path / "store", odd, [features], described)
    assert open_store(str(tmp_path / "store"), described).ids.tolist() == ids.tolist()


def test_a_split_without_examples_is_refused(tmp_path, identity, dataset):
    empty = take(dataset, np.zeros(0, int))
    described = describe(empty) | describe_teacher(identity)
    with pytest.raises(StoreError, match="at least one example; the split is empty"):
        write(tmp_path / "store", empty, [], described)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rows", "row_bytes", "views", "processes", "expected"),
    [
        (1, 8, 0, 1, 1),
        (255, 8, 0, 1, 255),
        (1_000, 8, 0, 1, 334),  # three of 256 rows or more
        (16_384, 8, 0, 1, 1_024),  # sixteen, so that a kill costs little
        (262_145, 8, 0, 1, 15_421),  # seventeen of nearly one size, not sixteen and a single row
        (1_000_000, 3_072, 0, 1, 16_130),  # 62 shards
        (100_000, 65_536, 0, 1, 1_021),  # at most 64 MiB: 98 shards
        (9, 2**27, 0, 1, 1),
        (60, 8, 6, 1, 60),
        (60, 8, 6, 4, 18),  # a shard for each host, views of an example together
        (3, 8, 0, 8, 1),
    ],
)
def test_the_size_of_shards(rows, row_bytes, views, processes, expected):
    assert shards.shard_rows(rows, row_bytes, views, processes) == expected


def test_features_in_half_precision_are_stored_in_float32(tmp_path, dataset, features, expected):
    half = features.astype(ml_dtypes.bfloat16)
    write(tmp_path / "store", dataset, [half], expected)
    found = join(open_store(str(tmp_path / "store"), expected), dataset.ids)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, half.astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(tmp_path, dataset, features, expected, value):
    features = features.copy()
    features[5, 1] = value
    message = f"NaN or infinity for example '{dataset.ids[5]}' and 0 others in its batch"
    with pytest.raises(StoreError, match=message):
        write(tmp_path / "store", dataset, [features[:4], features[4:]], expected)
    assert names(tmp_path) == ["store/plan.json"]


@pytest.mark.parametrize(("dtype", "value"), [("float32", 1e300), ("bfloat16", 3.4e38)])
def test_features_beyond_the_dtype_are_refused(tmp_path, dataset, features, expected, dtype, value):
    features = features.astype(np.float64)
    features[5, 1] = value  # bfloat16 rounds it up to infinity
    with pytest.raises(StoreError, match=rf"features are finite in {dtype}; .* and 0 others"):
        write(tmp_path / "store", dataset, [features], expected | {"dtype": dtype})


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([(4, 3)], "one row an example; got 4 rows for 7, so that shard 0 is not full"),
        ([], "one row an example; got 0 rows for 7"),
        ([(4, 3), (4, 3)], r"7 in all; a batch came with 1 more"),
        ([(7, 2)], r"shape \(7, 3\); a batch came with shape \(7, 2\)"),
        ([(7,)], r"shape \(7, 3\); a batch came with shape \(7,\)"),
        ([(7, 3, 1)], r"shape \(7, 3\); a batch came with shape \(7, 3, 1\)"),
    ],
)
def test_batches_that_do_not_add_up_are_refused(tmp_path, dataset, expected, batches, message):
    with pytest.raises(StoreError, match=message):
        write(tmp_path / "store", dataset, [np.ones(s, np.float32) for s in batches], expected)


def test_a_store_is_written_once(store, dataset, features, expected):
    with pytest.raises(StoreError, match=r"written once; .*/store exists\. Delete it"):
        write(store, dataset, [features + 1], expected)
    found = join(open_store(str(store), expected), dataset.ids)
    np.testing.assert_array_equal(found, features)


def test_a_marker_that_is_damaged_is_named(store, dataset, features, expected):
    (store / "manifest.json").unlink()
    (store / "done/00001.json").write_text("{")

    from aft_jax.features.kv import Directory
    from aft_jax.features.manifest import read_plan
    from aft_jax.features.writer import StoreWriter

    directory = Directory(str(store))
    plan = read_plan(directory)
    assert plan is not None
    with pytest.raises(StoreError, match=r"done/00001\.json does not\. Delete that file and run"):
        StoreWriter(directory, dataset.ids, plan).finish()


def test_shards_of_an_unknown_plan_are_nobodys(store, dataset, features, expected):
    """Another teacher's rows would be taken for this one's."""
    for name in ("manifest.json", "plan.json"):
        (store / name).unlink()
    with pytest.raises(StoreError, match=r"has shards and no plan\.json.*Delete that directory"):
        write(store, dataset, [features], expected | {"teacher_id": "another"})
