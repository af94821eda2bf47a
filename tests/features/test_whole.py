"""A split's features read at once: by id, by view, and without what is missing."""

import dataclasses

import numpy as np
import pytest

from aft_jax.errors import StoreError
from aft_jax.features import extract, open_store, read_whole, store_path, write_store
from tests.features.conftest import ROWS, WIDTH, edit_manifest, make_dataset, toy_features


@pytest.fixture
def viewed(store, dataset):
    """The store as if its first six rows were two views of each of three examples."""
    rows = open_store(str(store)).rows().read_all()[:6]
    opened = open_store(str(store))
    manifest = dataclasses.replace(opened.manifest, views=2, shape=(6, WIDTH))
    return dataclasses.replace(opened, manifest=manifest, ids=dataset.ids[:3]), rows


def test_rows_are_found_by_id(store, dataset, features):
    order = np.random.default_rng(0).permutation(ROWS)
    whole = read_whole(
        {"a": open_store(str(store))}, dataset.ids[order], views=(0,), missing="error"
    )
    np.testing.assert_array_equal(whole.named["a"], features[order])
    assert whole.named["a"].dtype == np.float32
    assert whole.present.all()


def test_views_are_read_one_by_one_or_as_their_mean(viewed, dataset):
    opened, rows = viewed
    ids = dataset.ids[[2, 0]]
    first = read_whole({"a": opened}, ids, views=(0,), missing="error").named["a"]
    np.testing.assert_array_equal(first, rows[[4, 0]])
    mean = read_whole({"a": opened}, ids, views=range(2), missing="error").named["a"]
    np.testing.assert_allclose(mean, rows.reshape(3, 2, WIDTH).mean(axis=1)[[2, 0]], rtol=1e-6)


def test_examples_without_features_are_zero_in_all_teachers(store, tmp_path, dataset, features):
    write_store(
        str(tmp_path / "other"),
        dataset.ids,
        [features + 1],
        WIDTH,
        teacher_parameters=0,
        **plan_of(store),
    )
    half = dataclasses.replace(open_store(str(store)), ids=np.char.add(dataset.ids, "x"))
    half.ids[3:] = dataset.ids[3:]
    stores = {"a": half, "b": open_store(str(tmp_path / "other"))}
    whole = read_whole(stores, dataset.ids, views=(0,), missing="skip")
    np.testing.assert_array_equal(whole.present, np.arange(ROWS) >= 3)
    np.testing.assert_array_equal(whole.named["b"][:3], 0)
    np.testing.assert_array_equal(whole.named["a"][3:], features[3:])
    with pytest.raises(StoreError, match="every example of the split has a row in the store; 3 of"):
        read_whole(stores, dataset.ids, views=(0,), missing="error")


def plan_of(store):
    manifest = open_store(str(store)).manifest
    names = ("dataset_name", "dataset_version", "dataset_split", "dataset_rows")
    names += ("dataset_ids_sha256", "teacher_id", "teacher_revision", "teacher_weights_sha256")
    return {name: getattr(manifest, name) for name in (*names, "preprocessing", "pooling")}


def test_features_that_are_no_numbers_are_refused(store, dataset):
    opened = open_store(str(store))
    with pytest.raises(StoreError, match="features are finite"):
        read_whole(
            {"a": dataclasses.replace(opened, directory=damaged(store))},
            dataset.ids,
            views=(0,),
            missing="error",
        )


def damaged(store):
    """The directory, with a NaN in its first shard."""
    file = next(path for path in sorted(store.rglob("c/0/*")) if path.is_file())
    content = np.frombuffer(file.read_bytes(), np.float32).copy()
    content[0] = np.nan
    file.write_bytes(content.tobytes())
    edit_manifest(store)
    return store


def test_parts_of_a_teacher_have_a_name_each(run, toy):
    extract(run, {"toy": toy().teacher})
    data = make_dataset(10)
    opened = open_store(store_path(run, "toy", data.split))
    whole = read_whole({"toy": opened}, data.ids, views=(0,), missing="error")
    expected = toy_features(data)
    np.testing.assert_array_equal(whole.named["toy.image"], expected[:, :1])
    np.testing.assert_array_equal(whole.named["toy.text"], expected[:, 1:])


def test_a_config_that_skips_extracts_like_any_other(run, toy):
    features = dataclasses.replace(run.features, missing="skip")
    config = dataclasses.replace(run, features=features)
    stores = extract(config, {"toy": toy().teacher})
    assert open_store(stores[0]).manifest.dataset_rows == 10
    assert extract(config, {"toy": toy(fail_after=0).teacher}) == stores
