"""The feature store: what comes out is what went in, row by id; all else is refused by name."""

import errno
import json
import re

import numpy as np
import pytest

from aft_jax.data import take
from aft_jax.errors import StoreError
from aft_jax.features import (
    describe,
    describe_teacher,
    join,
    open_store,
    read_manifest,
    store_path,
    write_store,
)
from aft_jax.features.kv import Directory
from aft_jax.features.manifest import read_plan
from tests.features.conftest import edit_manifest, make_dataset, replace_file


def test_the_files_are_a_zarr_array(store, features):
    """Read by another program: the container's own library, from what stands in its zarr.json."""
    import tensorstore as ts

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{store}/features/"}}
    array = ts.open(spec).result()
    np.testing.assert_array_equal(array.read().result(), features)


def test_a_shard_is_its_rows_and_a_checksum(store, features):
    assert (store / "features/c/1/0").read_bytes()[:-4] == features[3:6].tobytes()
    assert (store / "features/c/2/0").stat().st_size == 3 * 3 * 4 + 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [1, 3, 4, 9, 10])
def test_round_trip_over_shards(tmp_path, identity, rows, dtype, small_shards):
    features = np.random.default_rng(1).integers(-8, 8, (rows, 2)).astype(np.float32)
    features[:3] = 0.0  # the container may leave out what is all zero
    dataset = make_dataset(rows)
    described = describe_teacher(identity) | describe(dataset)
    path, batches = str(tmp_path / "store"), np.split(features, range(2, rows, 2))
    write_store(path, dataset.ids, batches, 2, dtype=dtype, teacher_parameters=1, **described)
    opened = open_store(path, described | {"dtype": dtype})
    assert opened.manifest.shards == -(-rows // 3)
    found = join(opened, dataset.ids)
    assert found.dtype.name == dtype
    np.testing.assert_array_equal(found.astype(np.float32), features)
    np.testing.assert_array_equal(opened.rows().read_all(), found)


def test_the_manifest_says_what_the_store_is(store, dataset, identity):
    manifest = read_manifest(str(store))
    assert manifest.format_version == 2
    assert (manifest.teacher_id, manifest.teacher_revision) == (identity.id, identity.revision)
    assert (manifest.preprocessing, manifest.pooling) == ("as given", "pooled")
    assert (manifest.dataset_name, manifest.dataset_version) == ("toy/task", "v1")
    assert (manifest.dtype, manifest.shape, manifest.shard_rows) == ("float32", (7, 3), 3)
    assert (manifest.views, manifest.augmentation) == (0, "")
    assert manifest.parts == {"pooled": (0, 3)}
    on_disk = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}
    done = {f"done/0000{shard}.json" for shard in range(3)}
    assert set(manifest.files_sha256) == on_disk - done - {"manifest.json", "plan.json"}


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_found_by_id_in_any_order(store, dataset, features, expected, seed):
    rows = np.random.default_rng(seed).integers(7, size=12)
    joined = join(open_store(str(store), expected), dataset.ids[rows])
    np.testing.assert_array_equal(joined, features[rows])


@pytest.mark.parametrize("stranger", ["", "00000000", "7", "zzzz", "ffffffff0"])
def test_an_example_without_features_is_refused(store, dataset, expected, stranger):
    """Also where its id sorts before, between or beyond those of the store."""
    ids = np.array([dataset.ids[2], stranger, "~", dataset.ids[0]])
    message = f"2 of 4 have none in {store}: '{stranger}', '~'. Extract"
    with pytest.raises(StoreError, match=re.escape(message)):
        join(open_store(str(store), expected), ids)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("teacher_id", "toy/other"),
        ("teacher_revision", "r2"),
        ("teacher_weights_sha256", "def456"),
        ("preprocessing", "resized"),
        ("pooling", "cls"),
        ("dataset_name", "toy/else"),
        ("dataset_version", "v2"),
        ("dataset_split", "tune"),
        ("dtype", "bfloat16"),
        ("shape", (7, 4)),
        ("views", 2),
        ("augmentation", '{"flip": true}'),
    ],
)
def test_a_store_of_something_else_is_refused(store, expected, field, value):
    found = getattr(read_manifest(str(store)), field)
    message = f"{field}: the store has {found!r}, the run needs {value!r}. Go back to the config"
    with pytest.raises(StoreError, match=re.escape(message)) as raised:
        open_store(str(store), expected | {field: value})
    assert "delete that directory and run `aft-jax extract` again" in str(raised.value)
    assert str(raised.value).count("the run needs") == 1


def test_the_same_rows_in_another_order_are_refused(store, dataset):
    other = take(dataset, np.array([1, 0, 2, 3, 4, 5, 6]))
    with pytest.raises(StoreError, match=r"does not fit\. dataset_ids_sha256: the store has '"):
        open_store(str(store), describe(other))


def test_a_part_of_the_rows_is_refused(store, dataset):
    message = "dataset_rows: the store has 7, the run needs 5; dataset_ids_sha256: "
    with pytest.raises(StoreError, match=message):
        open_store(str(store), describe(take(dataset, np.arange(5))))


@pytest.mark.parametrize("name", ["features/c/1/0", "features/c/2/0", "ids.txt"])
@pytest.mark.parametrize("position", [0, 20, -1])
def test_a_flipped_bit_is_refused(store, expected, name, position):
    content = bytearray((store / name).read_bytes())
    content[position] ^= 1
    (store / name).write_bytes(content)
    message = rf"{name} has [0-9a-f]{{64}}, the manifest says [0-9a-f]{{64}}\. Delete .*manifest\.j"
    with pytest.raises(StoreError, match=message):
        open_store(str(store), expected)


def test_any_flipped_bit_in_the_manifest_is_refused(store):
    """Every byte of it; the file is small."""
    path = store / "manifest.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 1 << (position % 8)
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"manifest\.json is damaged|format_version of .* is"):
            read_manifest(str(store))


@pytest.mark.parametrize("size", [0, 10, -1])
def test_a_truncated_shard_is_refused(store, expected, size):
    shard = store / "features/c/0/0"
    shard.write_bytes(shard.read_bytes()[:size])
    message = rf"Delete {store}/manifest\.json and {store}/done/00000\.json, and the same"
    with pytest.raises(StoreError, match=message):
        open_store(str(store), expected)


@pytest.mark.parametrize("name", ["features/c/2/0", "features/zarr.json", "ids.txt"])
def test_a_missing_file_is_refused(store, expected, name):
    (store / name).unlink()
    with pytest.raises(StoreError, match=rf"{name} is missing, the manifest says"):
        open_store(str(store), expected)


def test_a_half_written_store_is_refused(store, expected):
    (store / "manifest.json").unlink()
    (store / "done/00001.json").unlink()
    message = "half-written: 2 of 3 shards are done. The same `aft-jax extract` resumes it"
    with pytest.raises(StoreError, match=message):
        open_store(str(store), expected)


def test_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"none holds no store\. Run `aft-jax extract`"):
        open_store(str(tmp_path / "none"), {})


@pytest.mark.parametrize(
    ("version", "fix"),
    [(3, "Upgrade aft_jax"), (1, "extract the features again"), ("2", "extract"), (None, "extr")],
)
def test_another_format_is_refused(store, expected, version, fix):
    path = store / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))
    with pytest.raises(StoreError, match=f"format_version of .* is {version}; .*reads 2. .*{fix}"):
        open_store(str(store), expected)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", '{"format_version": 2}'])
def test_a_malformed_manifest_or_plan_is_refused(store, text):
    for name in ("manifest.json", "plan.json"):
        (store / name).write_text(text)
    with pytest.raises(StoreError, match=r"manifest\.json is damaged: .* shards that are done"):
        read_manifest(str(store))
    with pytest.raises(StoreError, match=r"plan\.json is damaged: .*Delete the store"):
        read_plan(Directory(str(store)))


@pytest.mark.parametrize(
    "changes",
    [
        {"files_sha256": ["ids.txt"]},
        {"files_sha256": {"ids.txt": 1}},
        {"shape": "ab"},
        {"shape": (7,)},
        {"shape": (7, 3.0)},
        {"parts": {"pooled": [0]}},
        {"dataset_rows": "7"},
        {"dataset_rows": True},
        {"teacher_id": None},
    ],
)
def test_a_manifest_with_values_of_another_type_is_refused(store, changes):
    edit_manifest(store, **changes)
    (field,) = changes
    with pytest.raises(StoreError, match=rf"manifest\.json is damaged: {field} is of type"):
        open_store(str(store), {})


def test_ids_that_are_not_the_manifests_are_refused(store, dataset, expected):
    replace_file(store, "ids.txt", "\n".join([*dataset.ids, "more", ""]).encode())
    with pytest.raises(StoreError, match=r"says dataset_rows 7 .*ids\.txt has 8 and"):
        open_store(str(store), expected)


def test_a_shard_of_another_size_with_its_hash_is_refused(store, expected):
    replace_file(store, "features/c/1/0", b"\0" * 8)
    with pytest.raises(StoreError, match=r"have 40 bytes; .*features/c/1/0 has 8\."):
        open_store(str(store), expected).rows()


def test_where_a_store_is(config):
    assert store_path(config, "toy", "train") == "runs/features/toy/toy-train"


def test_storage_that_fails_is_no_missing_file(store, expected, monkeypatch):
    """Nobody is told to delete a shard that is whole and cannot be read now."""

    def failing(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("aft_jax.features.reader.sha256_of", failing)
    with pytest.raises(OSError, match="Input/output error"):
        open_store(str(store), expected)


def test_rows_of_storage_that_fails(store, dataset, expected, monkeypatch):
    opened = open_store(str(store), expected)

    def failing(*arguments):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("aft_jax.features.rows.read_rows", failing)
    with pytest.raises(OSError, match="Stale file handle"):
        opened.rows().gather(np.arange(2))


def test_a_shard_cut_off_after_it_was_opened(store, expected):
    found = open_store(str(store), expected).rows()
    (store / "features/c/1/0").write_bytes(b"")
    with pytest.raises(StoreError, match="one has been cut off after 0 of 36 bytes"):
        found.read_all()
