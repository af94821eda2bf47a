"""The `extract` verb's function: the stores the config names, once, and never another teacher's."""

import dataclasses
import importlib

import numpy as np
import pytest

from aft_jax.data import ArrayExamples
from aft_jax.data.dataset import take
from aft_jax.data.images import cut, draw_view
from aft_jax.errors import ConfigError, StoreError
from aft_jax.features import extract, join, open_store, read_manifest, store_path, verify, writer
from aft_jax.features.kv import Directory
from aft_jax.teachers import Teacher
from tests.features.conftest import make_dataset, serve, toy_features

# The package names its function as the module: an import statement finds the function.
EXTRACT = importlib.import_module("aft_jax.features.extract")


def changed(config, **keys):
    return dataclasses.replace(config, features=dataclasses.replace(config.features, **keys))


def files(path):
    return {file: file.stat().st_mtime_ns for file in sorted(path.rglob("*")) if file.is_file()}


def test_train_and_tune_get_a_store_and_test_none(run, toy, tmp_path):
    stores = extract(run, {"toy": toy().teacher})
    root = str(tmp_path / "features/toy")
    assert stores == [f"{root}/toy-train", f"{root}/toy-tune"]
    assert sorted(path.name for path in (tmp_path / "features/toy").iterdir()) == [
        "toy-train",
        "toy-tune",
    ]
    for path, rows, split in zip(stores, (10, 4), ("train", "tune"), strict=True):
        dataset = make_dataset(rows, split)
        opened = open_store(path, {})
        assert opened.ids.tolist() == dataset.ids.tolist()
        assert opened.parts == {"image": (0, 1), "text": (1, 3)}
        assert opened.manifest.teacher_parameters == 9
        np.testing.assert_array_equal(join(opened, dataset.ids), toy_features(dataset))


def test_a_second_time_changes_nothing(run, toy, tmp_path):
    extract(run, {"toy": toy().teacher})
    before, again = files(tmp_path), toy()
    extract(run, {"toy": again.teacher})
    assert (again.rows, files(tmp_path)) == (0, before)


def test_no_teacher_is_loaded_for_complete_stores(run, toy, monkeypatch, identity):
    stores = extract(run, {"toy": toy().teacher})
    monkeypatch.setattr(EXTRACT, "identify_teacher", lambda _: identity)
    monkeypatch.setattr(EXTRACT, "make_teacher", None)
    assert extract(run) == stores


@pytest.mark.parametrize("batches", [1, 2, 3, 4])
def test_a_killed_extraction_resumes_and_recomputes_no_finished_shard(run, toy, batches):
    """Ten rows in shards of three (four shards balanced to 3, 3, 3, 1) and batches of four."""
    path = store_path(run, "toy", "train")
    with pytest.raises(KeyboardInterrupt, match="killed"):
        # The first batch is one row, from which the store learns the width.
        extract(run, {"toy": toy(fail_after=batches).teacher})
    done = {1: 0, 2: 1, 3: 2, 4: 4}[batches]
    if batches < 4:  # after that it is the tune split that is cut off
        with pytest.raises(StoreError, match=f"half-written: {done} of 4 shards .* resumes it"):
            open_store(path, {})
    before, again = files(Directory(path).local), toy()
    extract(run, {"toy": again.teacher})
    rows = 10 - 3 * done if batches < 4 else 0
    learned = done == 0  # nothing of the plan is kept, the width is asked for again
    assert again.rows == rows + learned + 5  # and the tune split
    assert before.items() <= files(Directory(path).local).items()
    np.testing.assert_array_equal(
        join(open_store(path, {}), make_dataset(10).ids), toy_features(make_dataset(10))
    )


def test_resuming_with_another_plan_is_refused_and_nothing_deleted(run, toy, identity, tmp_path):
    with pytest.raises(KeyboardInterrupt, match="killed"):
        extract(run, {"toy": toy(fail_after=2).teacher})
    before = files(tmp_path)
    other = toy().teacher._replace(identity=identity._replace(weights_sha256="def"))
    message = (
        r"toy-train does not fit\. teacher_weights_sha256: the store has 'abc123', the run "
        r"needs 'def'\. Go back to the config .*delete that directory"
    )
    with pytest.raises(StoreError, match=message):
        extract(run, {"toy": other})
    with pytest.raises(StoreError, match="dtype: the store has 'float32', the run needs 'bfl"):
        extract(changed(run, dtype="bfloat16"), {"toy": toy().teacher})
    assert files(tmp_path) == before


def test_resuming_with_a_teacher_of_another_width_is_refused(run, toy):
    with pytest.raises(KeyboardInterrupt, match="killed"):
        extract(run, {"toy": toy(fail_after=2).teacher})
    wide = toy().teacher._replace(features=lambda x: {"image": x, "text": x})
    with pytest.raises(StoreError, match=r"begun with \{'image': \(1,\).*gives \{'image': \(2,\)"):
        extract(run, {"toy": wide})


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
def test_a_complete_store_of_another_teacher_is_refused(run, toy, identity, field, value):
    extract(run, {"toy": toy().teacher})
    other = toy().teacher._replace(identity=identity._replace(**{field: value}))
    message = f"{field}: the store has '{getattr(identity, field)}', the run needs '{value}'"
    with pytest.raises(StoreError, match=message):
        extract(run, {"toy": other})


def test_a_damaged_store_is_not_taken_for_done(run, toy, tmp_path):
    extract(run, {"toy": toy().teacher})
    ids = tmp_path / "features/toy/toy-tune/ids.txt"
    ids.write_bytes(ids.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"toy-tune/ids\.txt has "):
        extract(run, {"toy": toy().teacher})


def test_the_advice_for_a_damaged_shard_heals_it(run, toy, tmp_path):
    """Only its own rows are computed again."""
    extract(run, {"toy": toy().teacher})
    store = tmp_path / "features/toy/toy-train"
    shard = store / "features/c/1/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    message = r"Delete (\S+)/manifest\.json and (\S+)/done/00001\.json, and the same"
    with pytest.raises(StoreError, match=message):
        extract(run, {"toy": toy().teacher})
    (store / "manifest.json").unlink()
    (store / "done/00001.json").unlink()
    again = toy()
    extract(run, {"toy": again.teacher})
    assert again.rows == 3
    dataset = make_dataset(10)
    found = join(open_store(str(store), {}), dataset.ids)
    np.testing.assert_array_equal(found, toy_features(dataset))


def test_features_in_bfloat16(run, toy):
    path, _ = extract(changed(run, dtype="bfloat16"), {"toy": toy().teacher})
    opened = open_store(path, {"dtype": "bfloat16"})
    dataset = make_dataset(10)  # its numbers are small enough to be exact
    found = join(opened, dataset.ids)
    assert found.dtype.name == "bfloat16"
    np.testing.assert_array_equal(found.astype(np.float32), toy_features(dataset))


def test_features_that_are_not_finite_are_refused(run, toy):
    def features(prepared):
        return {"pooled": np.where(prepared == 10.0, np.nan, prepared)}

    teacher = toy().teacher._replace(features=features)
    with pytest.raises(
        StoreError, match=f"NaN or infinity for example '{make_dataset(10).ids[5]}'"
    ):
        extract(run, {"toy": teacher})


def test_a_split_without_examples_is_refused(run, toy, monkeypatch):
    empty = take(make_dataset(3), np.zeros(0, int))
    serve(monkeypatch, {"train": empty, "tune": empty})
    with pytest.raises(StoreError, match="at least one example; the split is empty"):
        extract(run, {"toy": toy().teacher})


def test_extract_needs_a_teacher(run, toy):
    with pytest.raises(ConfigError, match=r"config\.teachers is empty"):
        extract(dataclasses.replace(run, teachers={}))
    with pytest.raises(ConfigError, match=r"which has toy; got other\. Add them"):
        extract(run, {"other": toy().teacher})


# Views.


def pictures(rows=5, split="train"):
    """Images of different sizes."""
    random = np.random.default_rng(0)
    images = np.empty(rows, object)
    for row in range(rows):
        images[row] = random.integers(0, 256, (8 + row, 12 - row, 3), np.uint8)
    return dataclasses.replace(make_dataset(rows, split), examples=ArrayExamples(images, "image"))


@pytest.fixture
def viewed(run, monkeypatch):
    """The run with three views of five images, two examples a shard."""
    monkeypatch.setattr("aft_jax.features.shards.MAX_SHARD_ROWS", 8)
    serve(monkeypatch, {"train": pictures(), "tune": pictures(2, "tune")})
    return dataclasses.replace(run, views=3)


@pytest.fixture
def looking(identity):
    """A teacher that gives the sum of the pixels, and their number."""

    def prepare(examples):
        images = [example["image"] for example in examples]
        return np.array([[image.sum(), image.size] for image in images], np.float32)

    return Teacher(identity, prepare, lambda prepared: {"pooled": prepared}, 1)


def test_views_are_those_that_training_shows(viewed, looking):
    path, _ = extract(viewed, {"toy": looking})
    assert path.endswith("/toy-train-views3")
    opened, dataset = open_store(path, {}), pictures()
    stored, parameters = join(opened, dataset.ids), opened.views()
    assert (stored.shape, parameters.shape, parameters.dtype) == ((5, 3, 2), (15, 5), np.int32)
    assert opened.manifest.shard_rows == 6
    for row, name in enumerate(dataset.ids.tolist()):
        image = dataset.examples[row]["image"]
        for number in range(3):
            view = draw_view(f"{name}/{number}", image.shape[0], image.shape[1], viewed.augment)
            shown = cut(image, view)
            assert tuple(parameters[3 * row + number]) == view
            assert stored[row, number].tolist() == [shown.sum(), shown.size]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": 0}, r"views: the store has 3, the run needs 0; augmentation: .*needs ''"),
        ({"views": 2}, "views: the store has 3, the run needs 2"),
        ({"min_area": 0.25}, r"augmentation: .*\"min_area\": 0\.5.* needs .*\"min_area\": 0\.25"),
    ],
)
def test_other_views_are_refused(viewed, looking, changes, message, tmp_path):
    path, _ = extract(viewed, {"toy": looking})
    augment = dataclasses.replace(viewed.augment, min_area=changes.pop("min_area", 0.5))
    other = dataclasses.replace(viewed, augment=augment, **changes)
    wanted = tmp_path / store_path(other, "toy", "train")
    if str(wanted) != path:
        (tmp_path / path).rename(wanted)
    with pytest.raises(StoreError, match=message):
        extract(other, {"toy": looking})


def test_a_store_without_views_does_not_serve_a_run_with_views(viewed, looking, tmp_path):
    path, _ = extract(dataclasses.replace(viewed, views=0), {"toy": looking})
    (tmp_path / path).rename(tmp_path / store_path(viewed, "toy", "train"))
    message = "views: the store has 0, the run needs 3; augmentation: the store has ''"
    with pytest.raises(StoreError, match=message):
        extract(viewed, {"toy": looking})


def test_views_of_something_else_than_images_are_refused(run, toy):
    with pytest.raises(ConfigError, match=r"views of images; examples of toy/task have array"):
        extract(dataclasses.replace(run, views=2), {"toy": toy().teacher})
    with pytest.raises(ConfigError, match="-1 cuts fresh ones"):
        extract(dataclasses.replace(run, views=-1), {"toy": toy().teacher})


def test_verify_checks_views(viewed, looking):
    extract(viewed, {"toy": looking})
    lines = verify(viewed, {"toy": looking}, rows=2)
    assert "15 rows finite; 6 rows recomputed" in lines[0]


# Several hosts.


def test_processes_share_the_shards(run, toy, monkeypatch):
    monkeypatch.setattr(writer, "POLL_SECONDS", 0.01)
    first, second = toy(), toy()
    path = store_path(run, "toy", "train")
    extract(changed(run, processes=2, process=1), {"toy": second.teacher})
    with pytest.raises(StoreError, match="half-written: 2 of 4 shards"):
        read_manifest(path)
    extract(changed(run, processes=2, process=0), {"toy": first.teacher})
    dataset = make_dataset(10)
    np.testing.assert_array_equal(join(open_store(path, {}), dataset.ids), toy_features(dataset))


def test_a_process_that_does_not_come_is_named(run, toy, monkeypatch):
    monkeypatch.setattr(writer, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(writer, "WAIT_SECONDS", 0.05)
    with pytest.raises(StoreError, match=r"lacks 2, and none came in 0\.05 s: 1, 3\. Shard s bel"):
        extract(changed(run, processes=2, process=0), {"toy": toy().teacher})
    last = toy()  # finishing alone, as the message says
    path, _ = extract(run, {"toy": last.teacher})
    assert open_store(path, {}).manifest.shards == 4


def test_a_plan_without_a_finished_shard_gives_way_to_another_config(run, toy):
    """The first thing a user changes after a failed start must not meet that start."""
    with pytest.raises(KeyboardInterrupt, match="killed"):
        extract(run, {"toy": toy(fail_after=1).teacher})
    half = dataclasses.replace(run, features=dataclasses.replace(run.features, dtype="bfloat16"))
    extract(half, {"toy": toy().teacher})
    assert open_store(store_path(run, "toy", "train")).manifest.dtype == "bfloat16"


def test_what_is_no_teacher_is_refused(run, unchecked_shapes):
    with pytest.raises(ConfigError, match=r"toy is function\. Wrap a function of examples in"):
        extract(run, {"toy": lambda examples: examples})  # pyright: ignore[reportArgumentType]
