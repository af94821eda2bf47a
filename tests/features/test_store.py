"""The feature store: what comes out is what went in, row by id; all else is refused by name."""

import hashlib
import json
import re

import numpy as np
import pytest

from aft_jax.errors import StoreError
from aft_jax.features import (
    describe,
    describe_teacher,
    join,
    open_store,
    read_manifest,
    write_store,
)


def write(path, dataset, batches, expected, width=3):
    return write_store(path, dataset.ids, batches, width, teacher_parameters=9, **expected)


def edit_manifest(store, **changes):
    path = store / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def array_file(store):
    """The one shard of the array."""
    return store / "features/c/0/0"


def test_round_trip(store, dataset, features, expected):
    opened = open_store(store, expected)
    assert opened.ids.tolist() == dataset.ids.tolist()
    assert opened.features.dtype == np.float32
    np.testing.assert_array_equal(opened.features, features)


@pytest.mark.parametrize("rows", [1, 256, 257, 600])
def test_round_trip_over_chunks(tmp_path, identity, rows):
    features = np.random.default_rng(1).normal(size=(rows, 2)).astype(np.float32)
    features[0] = 0.0
    ids = np.array([f"id-{row}" for row in range(rows)])
    described = describe_teacher(identity) | {
        "dataset_name": "n",
        "dataset_version": "v",
        "dataset_split": "s",
    }
    batches = np.split(features, range(100, rows, 100))
    write_store(tmp_path / "store", ids, batches, 2, teacher_parameters=1, **described)
    np.testing.assert_array_equal(open_store(tmp_path / "store", described).features, features)


def test_features_that_are_all_zero(tmp_path, dataset, expected):
    """The container may leave such chunks out."""
    write(tmp_path / "store", dataset, [np.zeros((7, 3), np.float32)], expected)
    assert not np.any(open_store(tmp_path / "store", expected).features)


def test_the_manifest_says_what_the_store_is(store, dataset, identity):
    manifest = read_manifest(store)
    assert manifest.format_version == 1
    assert (manifest.teacher_id, manifest.teacher_revision) == (identity.id, identity.revision)
    assert manifest.teacher_weights_sha256 == "abc123"
    assert (manifest.preprocessing, manifest.pooling) == ("as given", "pooled")
    assert (manifest.dataset_name, manifest.dataset_version) == ("toy/task", "v1")
    assert (manifest.dataset_split, manifest.dataset_rows) == ("train", 7)
    digest = hashlib.sha256("\n".join(dataset.ids.tolist()).encode()).hexdigest()
    assert manifest.dataset_ids_sha256 == digest
    assert (manifest.dtype, manifest.shape) == ("float32", (7, 3))
    on_disk = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}
    assert set(manifest.files_sha256) == on_disk - {"manifest.json"}


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_found_by_id_in_any_order(store, dataset, features, expected, seed):
    rows = np.random.default_rng(seed).integers(7, size=12)
    joined = join(open_store(store, expected), dataset.ids[rows])
    np.testing.assert_array_equal(joined, features[rows])


@pytest.mark.parametrize("stranger", ["", "00000000", "7", "zzzz", "ffffffff0"])
def test_an_example_without_features_is_refused(store, dataset, expected, stranger):
    """Also where its id sorts before, between or beyond those of the store."""
    ids = np.array([dataset.ids[2], stranger, "~", dataset.ids[0]])
    message = f"2 of 4 have none, the first is '{stranger}'"
    with pytest.raises(StoreError, match=re.escape(message)):
        join(open_store(store, expected), ids)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "toy/other"),
        ("revision", "r2"),
        ("weights_sha256", "def456"),
        ("preprocessing", "resized"),
        ("pooling", "cls"),
    ],
)
def test_another_teacher_is_refused(store, dataset, identity, field, value):
    expected = describe(dataset) | describe_teacher(identity._replace(**{field: value}))
    message = f"{field}: the store has '{getattr(identity, field)}', the run needs '{value}'"
    with pytest.raises(StoreError, match=re.escape(message)) as raised:
        open_store(store, expected)
    assert "Delete that directory and run `aft-jax extract` again" in str(raised.value)
    assert str(raised.value).count("the run needs") == 1


@pytest.mark.parametrize(
    ("field", "found", "value"),
    [("name", "toy/task", "toy/else"), ("version", "v1", "v2"), ("split", "train", "tune")],
)
def test_another_data_set_is_refused(store, expected, field, found, value):
    message = f"dataset_{field}: the store has '{found}', the run needs '{value}'"
    with pytest.raises(StoreError, match=re.escape(message)):
        open_store(store, expected | {f"dataset_{field}": value})


def test_the_same_rows_in_another_order_are_refused(store, subset):
    with pytest.raises(StoreError, match=r"does not fit\. dataset_ids_sha256: the store has '"):
        open_store(store, describe(subset([1, 0, 2, 3, 4, 5, 6])))


def test_a_part_of_the_rows_is_refused(store, subset):
    with pytest.raises(
        StoreError, match="dataset_rows: the store has 7, the run needs 5; dataset_ids_sha256: "
    ):
        open_store(store, describe(subset([0, 1, 2, 3, 4])))


@pytest.mark.parametrize("position", [0, 40, -1])
def test_a_flipped_bit_is_refused(store, expected, position):
    shard = array_file(store)
    content = bytearray(shard.read_bytes())
    content[position] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match=r"features/c/0/0 has .*The store is damaged"):
        open_store(store, expected)


def test_a_truncated_file_is_refused(store, expected):
    shard = array_file(store)
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(StoreError, match=r"features/c/0/0 has .*The store is damaged"):
        open_store(store, expected)


@pytest.mark.parametrize("name", ["features/c/0/0", "features/zarr.json", "ids.txt"])
def test_a_missing_file_is_refused(store, expected, name):
    (store / name).unlink()
    with pytest.raises(
        StoreError, match=f"{name} has None, the manifest says [0-9a-f]+. The store"
    ):
        open_store(store, expected)


def test_an_extra_file_is_refused(store, expected):
    (store / "features/c/0/1").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"features/c/0/1 has [0-9a-f]+, the manifest says None"):
        open_store(store, expected)


def test_swapped_ids_are_refused(store, expected):
    first, second, *others = (store / "ids.txt").read_text().splitlines()
    (store / "ids.txt").write_text("\n".join([second, first, *others]) + "\n")
    with pytest.raises(StoreError, match=r"ids\.txt has .*The store is damaged"):
        open_store(store, expected)


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_format_is_refused(store, expected, version):
    edit_manifest(store, format_version=version)
    with pytest.raises(StoreError, match=f"format_version of .* is {version}; .*reads 1. Upgrade"):
        open_store(store, expected)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", "{}", '{"format_version": 1}', '{"format_version": 1, "x": 2}'],
)
def test_a_malformed_manifest_is_refused(store, text):
    (store / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=r"manifest\.json is not a manifest: "):
        read_manifest(store)


@pytest.mark.parametrize("changes", [{"shape": None}, {"new_field": 1}])
def test_a_manifest_with_other_fields_is_refused(store, changes):
    edit_manifest(store, **changes)
    with pytest.raises(StoreError, match=r"manifest\.json is not a manifest: "):
        read_manifest(store)


@pytest.mark.parametrize(
    "changes",
    [
        {"files_sha256": None},
        {"files_sha256": ["ids.txt"]},
        {"files_sha256": {"ids.txt": 1}},
        {"shape": "ab"},
        {"shape": [7]},
        {"shape": [7, 3.0]},
        {"dataset_rows": "7"},
        {"dataset_rows": True},
        {"teacher_id": None},
    ],
)
def test_a_manifest_with_values_of_another_type_is_refused(store, changes):
    edit_manifest(store, **changes)
    (field,) = changes
    with pytest.raises(StoreError, match=rf"manifest\.json is not a manifest: {field} is of type"):
        open_store(store, {})


def test_a_manifest_that_is_no_text_is_refused(store):
    (store / "manifest.json").write_bytes(b"\xff\xfe")
    with pytest.raises(StoreError, match=r"manifest\.json is not a manifest: "):
        read_manifest(store)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"dtype": "bfloat16"}, "'float32'"),
        ({"shape": [7, 4]}, r"\(7, 3\)"),
        ({"shape": [8, 3]}, r"\(7, 3\); shape\[0\]: the manifest says 8, the files have 7"),
        ({"dataset_rows": 8}, "7"),
        ({"dataset_ids_sha256": "0" * 64}, "'[0-9a-f]{64}'"),
    ],
)
def test_a_manifest_that_contradicts_the_array_is_refused(store, changes, found):
    edit_manifest(store, **changes)
    (field,) = changes
    with pytest.raises(
        StoreError, match=rf"\. {field}: the manifest says .*, the files have {found}\."
    ):
        open_store(store, {})


def replace_file(store, name, content):
    """With its hash: damage that only the content shows."""
    (store / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    hashes = {**read_manifest(store).files_sha256, name: digest}
    edit_manifest(store, files_sha256=hashes)


def test_ids_that_are_not_the_manifests_are_refused(store, dataset, expected):
    replace_file(store, "ids.txt", "\n".join([*dataset.ids, "more", ""]).encode())
    with pytest.raises(
        StoreError, match=r"shape\[0\]: .* 8; dataset_rows: .* 8; dataset_ids_sha256: "
    ):
        open_store(store, expected)


@pytest.mark.parametrize("name", ["features/c/0/0", "features/zarr.json", "ids.txt"])
def test_files_that_cannot_be_read_are_refused(store, expected, name):
    replace_file(store, name, b"\xff\xfe")
    with pytest.raises(StoreError, match=r"ids\.txt and a zarr array; .* cannot be read: "):
        open_store(store, expected)


def test_a_manifest_below_the_top_is_an_extra_file(store, expected):
    (store / "features" / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match=r"features/manifest\.json has .*the manifest says None"):
        open_store(store, expected)
