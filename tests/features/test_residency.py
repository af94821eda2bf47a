"""Features while a run reads them: the same values wherever they are kept."""

import concurrent.futures
import dataclasses
import os

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from aft_jax.errors import ConfigError, StoreError
from aft_jax.features import choice, join, load_features, open_store, scattered, write_store
from aft_jax.features.shards import encode
from tests.features.conftest import make_dataset, replace_file

RESIDENCIES = ("device", "host", "stream")


def load(stores, ids, sharding, residency="host", missing="error"):
    return load_features(stores, ids, residency=residency, missing=missing, sharding=sharding)


@pytest.fixture
def opened(store, expected):
    return open_store(str(store), expected)


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_values_are_those_of_the_store(opened, dataset, features, sharding, residency):
    loaded = load({"toy": opened}, dataset.ids[::-1], sharding, residency)
    rows = np.array([3, 0, 6, 6, 1, 2, 5, 4])
    named, present = loaded.batch(rows, None)
    assert (loaded.residency, dict(loaded.dims), loaded.missing) == (residency, {"toy": 3}, 0)
    assert named["toy"].sharding.is_equivalent_to(sharding, 2)
    assert (present.dtype, present.tolist()) == (np.float32, [1.0] * 8)
    np.testing.assert_array_equal(named["toy"], features[::-1][rows])


@pytest.fixture
def bfloat16_store(tmp_path, dataset, features, expected, small_shards):
    path = str(tmp_path / "half")
    described = expected | {"dtype": "bfloat16", "teacher_parameters": 1}
    write_store(path, dataset.ids, [features], 3, **described)
    return open_store(path, {})


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_the_dtype_stays(bfloat16_store, dataset, sharding, residency):
    loaded = load({"toy": bfloat16_store}, dataset.ids, sharding, residency)
    found = loaded.batch(np.arange(4), None)[0]["toy"]
    assert found.dtype == "bfloat16"
    np.testing.assert_array_equal(found, join(bfloat16_store, dataset.ids[:4]))


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_rows_without_features_are_zero_and_masked(opened, dataset, features, sharding, residency):
    ids = np.array([dataset.ids[2], "stranger", dataset.ids[0], "~"])
    loaded = load({"toy": opened}, ids, sharding, residency, missing="skip")
    named, present = loaded.batch(np.arange(4), None)
    assert (loaded.missing, present.tolist()) == (2, [1.0, 0.0, 1.0, 0.0])
    assert loaded.describe().endswith("; 2 examples have none")
    zero = np.zeros(3, np.float32)
    np.testing.assert_array_equal(named["toy"], [features[2], zero, features[0], zero])


def test_rows_without_features_are_an_error_by_default(opened, dataset, sharding):
    ids = np.array([dataset.ids[2], "stranger", "~"])
    with pytest.raises(StoreError, match=r"2 of 3 have none in .*: 'stranger', '~'\. Extract"):
        load({"toy": opened}, ids, sharding)


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_teachers_and_parts_join_on_the_id(
    opened, bfloat16_store, dataset, features, sharding, residency
):
    """Each teacher's rows are in an order of their own, and one lacks an example."""
    parts = {"image": (0, 1), "text": (1, 3)}
    two = dataclasses.replace(
        bfloat16_store, manifest=dataclasses.replace(bfloat16_store.manifest, parts=parts)
    )
    ids = np.array([*dataset.ids[[5, 1, 3]], "stranger"])
    loaded = load({"a": opened, "b": two}, ids, sharding, residency, "skip")
    assert dict(loaded.dims) == {"a": 3, "b.image": 1, "b.text": 2}
    named, present = loaded.batch(np.array([2, 1, 0, 3]), None)
    whole = join(bfloat16_store, dataset.ids[[3, 1, 5]])
    np.testing.assert_array_equal(named["a"][:3], features[[3, 1, 5]])
    np.testing.assert_array_equal(named["b.image"][:3], whole[:, :1])
    np.testing.assert_array_equal(named["b.text"][:3], whole[:, 1:])
    assert present.tolist() == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_views_are_picked(tmp_path, expected, dataset, sharding, residency, small_shards):
    features = np.arange(42, dtype=np.float32).reshape(14, 3)
    path = str(tmp_path / "views")
    described = expected | {"views": 2, "augmentation": "{}", "teacher_parameters": 1}
    write_store(path, dataset.ids, [features], 3, **described)
    loaded = load({"toy": open_store(path, {})}, dataset.ids, sharding, residency)
    named, _ = loaded.batch(np.array([0, 6, 6, 3]), np.array([1, 0, 1, 0]))
    np.testing.assert_array_equal(named["toy"], features[[1, 12, 13, 6]])
    with pytest.raises(ConfigError, match="got views=None for stores with 2 views"):
        loaded.batch(np.arange(4), None)


def test_stores_of_different_views_are_refused(opened, sharding, dataset):
    other = dataclasses.replace(opened, manifest=dataclasses.replace(opened.manifest, views=2))
    with pytest.raises(StoreError, match=r"same number of views; got \{'a': 0, 'b': 2\}"):
        load({"a": opened, "b": other}, dataset.ids, sharding)
    with pytest.raises(ConfigError, match="got views=numbers for stores with 0 views"):
        load({"a": opened}, dataset.ids, sharding).batch(np.arange(4), np.zeros(4, int))


@pytest.mark.parametrize("residency", ["device", "host"])
def test_features_that_are_not_finite_with_their_hash_are_refused(
    store, features, dataset, sharding, residency
):
    """Another program wrote them: the hashes are right."""
    bad = features[3:6].copy()
    bad[1, 2] = np.nan
    replace_file(store, "features/c/1/0", encode(bad, 3, "float32"))
    message = f"holds NaN or infinity in row 4, example '{dataset.ids[4]}'"
    with pytest.raises(StoreError, match=message):
        load({"toy": open_store(str(store), {})}, dataset.ids, sharding, residency)


def test_an_unknown_residency_is_refused(opened, dataset, sharding):
    with pytest.raises(ConfigError, match="is one of auto, device, host, stream; got 'disk'"):
        load({"toy": opened}, dataset.ids, sharding, "disk")


@pytest.mark.parametrize(
    ("size", "device", "host", "residency"),
    [
        (100, 400, 0, "device"),
        (101, 400, 202, "host"),
        (101, 400, 201, "stream"),
        (100, 0, 200, "host"),
        (101, 0, 200, "stream"),
    ],
)
def test_auto_takes_the_first_with_room(monkeypatch, sharding, size, device, host, residency):
    """A quarter of the device's free memory, half of the host's."""
    monkeypatch.setattr(choice, "_free_on_devices", lambda _: device)
    monkeypatch.setattr(choice, "_least_over_processes", lambda device, _: (device, host))
    assert choice.choose("auto", size, sharding).residency == residency


def test_processes_of_one_host_share_its_memory(monkeypatch):
    """Of three, two are on the host of this one."""

    def gathered(told):
        other = np.array([told[0] + 1, 9 * told[1], told[2] + 1], told.dtype)
        return np.stack([told, other, told])

    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(multihost_utils, "process_allgather", gathered)
    assert choice._least_over_processes(5 << 20, 64 << 20) == (5 << 20, 32 << 20)


def test_a_cpu_reports_no_memory_of_its_own(opened, dataset, sharding):
    loaded = load({"toy": opened}, dataset.ids, sharding, "auto")
    assert loaded.residency == "host"
    described = loaded.describe()
    assert described.startswith("teacher features (toy 3) are kept in host memory: 0.0 MiB of ")
    assert described.endswith("the devices report no memory of their own")


def test_every_device_holds_all_rows(opened, dataset, sharding):
    """A gather needs no communication, so threads may ask for batches while a step runs."""
    loaded = load({"toy": opened}, dataset.ids, sharding, "device")
    loaded.batch(np.arange(4), None)
    live = jax.live_arrays()
    assert any(array.is_fully_replicated and array.shape == (7, 3) for array in live)


@pytest.mark.parametrize("offered", [True, False])
def test_scattered_reads_with_and_without_the_system_call(monkeypatch, tmp_path, offered):
    monkeypatch.setattr(scattered, "_available", offered and scattered._available)
    content = np.random.default_rng(0).integers(0, 255, (3000, 5), np.uint8)
    files = []
    for number, part in enumerate(np.split(content, 3)):
        (tmp_path / str(number)).write_bytes(part.tobytes())
        files.append((tmp_path / str(number)).open("rb"))
    descriptors = np.array([file.fileno() for file in files])
    rows = np.random.default_rng(1).integers(0, 3000, 2500)  # more than one call takes
    out = np.empty((2500, 5), np.uint8)
    scattered.read_rows(descriptors[rows // 1000], rows % 1000 * 5, out)
    np.testing.assert_array_equal(out, content[rows])
    with pytest.raises(OSError, match="file ends before"):
        scattered.read_rows(descriptors[[0]], np.array([4998]), out[:1])
    for file in files:
        file.close()
    with pytest.raises(OSError, match=r"file ends before|Bad file descriptor"):
        scattered.read_rows(descriptors[[0]], np.array([0]), out[:1])


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_threads_share_the_features(opened, dataset, features, sharding, residency):
    loaded = load({"toy": opened}, dataset.ids, sharding, residency)
    batches = np.random.default_rng(0).integers(0, 7, (40, 8))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda rows: loaded.batch(rows, None)[0]["toy"], batches))
    for rows, values in zip(batches, found, strict=True):
        np.testing.assert_array_equal(values, features[rows])


def test_files_close_with_the_store(opened):
    rows = opened.rows()
    descriptors = rows._descriptors.tolist()
    assert all(os.fstat(descriptor) for descriptor in descriptors)
    del rows
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptors[0])


def test_a_dataset_larger_than_the_store(opened, sharding):
    with pytest.raises(StoreError, match="30 of 30 have none"):
        load({"toy": opened}, make_dataset(30, "else").ids, sharding)
