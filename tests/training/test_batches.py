"""Batches: the same whatever thread, residency or process made them; and the splits they are of."""

import dataclasses
import json
import threading
import time
from typing import Any

import jax
import numpy as np
import pytest

from aft_jax.config import resolve
from aft_jax.config.defaults import base_config, teacher
from aft_jax.data import PaddedRows, RowOrder
from aft_jax.errors import ConfigError, DataError
from aft_jax.experiments import compare
from aft_jax.features import TeacherFeatures, extract
from aft_jax.features.residency import Source
from aft_jax.training import batches, build, evaluate, feed, train, trainer
from aft_jax.training.evaluate import evaluate_on
from aft_jax.training.experiment import initial_state
from aft_jax.training.sharding import data_mesh, row_sharded

ROWS, STEPS = 24, 6


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Small images with a text each, two views, dropout, tune carved out, four rows of test known
    from train."""
    root = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    arrays = {}
    for split, rows in (("train", ROWS), ("test", 10)):
        arrays |= {
            f"{split}/image": random.integers(0, 256, (rows, 7, 9, 3), np.uint8),
            f"{split}/text": np.array(
                [f"{split} {row} " + "x" * (row % 12) for row in range(rows)]
            ),
            f"{split}/label": np.arange(rows) % 2,
        }
    for name in ("image", "text", "label"):
        arrays[f"test/{name}"][:4] = arrays[f"train/{name}"][:4]
    np.savez(root / "set.npz", **arrays)
    raw: Any = base_config()
    raw.data.update({"name": "pairs", "source": "arrays", "path": str(root / "set.npz")})
    raw.data.update({"tune": "", "tune_fraction": 1 / 3})
    raw.inputs.update({"kind": "image_text", "image_size": 6, "tokenizer": "bytes"})
    raw.inputs.update({"max_length": 24, "buckets": (16, 24)})
    raw.student.name = "small_pair"
    raw.student.options = {
        **{"channels": (4,), "strides": (2,), "vocab_size": 257, "embedding": 4},
        **{"widths": (4,), "dropout": 0.5},
    }
    raw.teachers.noise = teacher("random", "", options={"width": 5, "seed": 0})
    raw.features.directory = str(root / "features")
    raw.update({"method": "aft", "beta": 3.0, "views": 2, "batch_size": 4, "devices": 1})
    raw.update({"steps": STEPS, "log_every": 2, "eval_every": STEPS, "checkpoint_every": 2})
    raw.compare.update({"betas": (1.0,), "search_seeds": (9,), "seeds": (0, 1)})
    resolved = resolve(raw)
    extract(resolved)
    return resolved


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """The directory of a run that nobody disturbed."""
    directory = tmp_path_factory.mktemp("finished")
    with jax.numpy_dtype_promotion("standard"):
        train(config, directory)
    return directory


def with_features(config, **changes):
    return dataclasses.replace(config, features=dataclasses.replace(config.features, **changes))


def assert_same_student(one, other):
    for name in ("student/model.safetensors", "regularizer.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_threads_that_finish_in_another_order_change_nothing(
    config, finished, tmp_path, monkeypatch
):
    original, used = batches.host_batch, set()

    def slow(data, features, order, step, *rest):
        used.add(threading.get_ident())
        time.sleep(0.05 * (step % 3 == 0))  # later batches are ready before this one
        return original(data, features, order, step, *rest)

    monkeypatch.setattr(feed, "host_batch", slow)
    train(config, tmp_path)
    assert len(used) > 1
    assert_same_student(tmp_path, finished)


@pytest.mark.parametrize("residency", ["device", "host", "stream"])
def test_where_features_are_kept_changes_nothing(config, finished, tmp_path, residency):
    train(with_features(config, residency=residency), tmp_path)
    assert_same_student(tmp_path, finished)


def test_a_run_resumes_with_features_kept_elsewhere(config, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer._Run, "call", interrupted_at(3))
    with pytest.raises(KeyboardInterrupt, match="as by a user"):
        train(with_features(config, residency="host"), tmp_path)
    monkeypatch.undo()
    for changes, key in (
        ({"missing": "skip"}, r"features\.missing is 'error' there and 'skip' now"),
        ({"dtype": "bfloat16"}, r"features\.dtype is 'float32' there and 'bfloat16' now"),
        ({"directory": "x", "threads": 2}, r"features\.directory is .* there and 'x' now\. Give"),
    ):
        with pytest.raises(ConfigError, match=key):
            train(with_features(config, **changes), tmp_path)
    for change in ({"views": 0}, {"augment": still(config)}):
        with pytest.raises(ConfigError, match=f"{next(iter(change))}.* there and"):
            train(dataclasses.replace(config, **change), tmp_path)
    free = {"residency": "stream", "threads": 1, "process": 1, "processes": 2}
    train(with_features(config, **free), tmp_path)
    assert_same_student(tmp_path, finished)


def still(config):
    return dataclasses.replace(config.augment, flip=False)


def interrupted_at(stop):
    original = trainer._Run.call

    def call(self, state, steps, picks):
        if steps.start == stop:
            raise KeyboardInterrupt("as by a user")
        return original(self, state, steps, picks)

    return call


def numbered(rows, views):
    """Features that are their own place in a store; the first example has none."""
    starts = np.arange(rows) * max(1, views)
    starts[0] = -1
    return TeacherFeatures(
        dims={"place": 1},
        residency="host",
        missing=1,
        reason="played",
        sharding=row_sharded(data_mesh(1, 1)),
        source=Source({}, lambda wanted: {"place": wanted["place"][:, None]}, lambda _, rows: rows),
        _rows={"place": starts},
        _views=max(0, views),
    )


def halves(monkeypatch, make):
    """What each of two processes loads of a batch."""
    # Without devices of a second process only the loading can be played, not the global array.
    monkeypatch.setattr(batches, "to_global", lambda tree, sharding: tree)
    made = []
    for index in range(2):
        monkeypatch.setattr(
            batches, "own_rows", lambda rows, sharding, i=index: np.split(rows, 2)[i]
        )
        made.append(make())
    monkeypatch.undo()
    return made


def assert_halves_of(whole, parts):
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    assert jax.tree.structure(joined) == jax.tree.structure(whole)
    for a, b in zip(jax.tree.leaves(joined), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("views", [0, 2, -1])
def test_two_processes_load_the_two_halves_of_a_training_batch(config, monkeypatch, views):
    experiment = build(dataclasses.replace(config, method="stl"))
    data, sharding = experiment.train, row_sharded(experiment.mesh)
    order = RowOrder(len(data.dataset), 4, seed=0)
    features = numbered(len(data.dataset), views)
    apart = 0
    for step in range(2 * order.steps_per_epoch):

        def make(step=step):
            return batches.host_batch(data, features, order, step, views, sharding)

        whole = make()
        parts = halves(monkeypatch, make)
        assert_halves_of(whole, parts)
        places = whole["teacher_features"]["place"][:, 0]
        expected = np.where(order.batch(step) > 0, order.batch(step), -1)
        assert (places // max(1, views)).tolist() == expected.tolist()
        longest = [part["inputs"]["attention_mask"].sum(axis=1).max() for part in parts]
        apart += min(longest) <= 16 < max(longest)
    assert apart  # else padding alike would have been no feat


def test_two_processes_load_the_two_halves_of_an_evaluation_batch(config, monkeypatch):
    experiment = build(dataclasses.replace(config, method="stl"))
    texts = experiment.tune.inputs(np.arange(len(experiment.tune.dataset)))["attention_mask"]
    lengths = texts.sum(axis=1)
    rows = np.array([lengths.argmin(), lengths.argmin(), lengths.argmax(), lengths.argmin()])
    padded = PaddedRows(rows, np.array([1, 1, 1, 0], np.float32))

    def make():
        return batches.eval_batch(experiment.tune, padded, row_sharded(experiment.mesh))

    with monkeypatch.context() as patch:
        patch.setattr(batches, "to_global", lambda tree, sharding: tree)
        whole = make()
    parts = halves(monkeypatch, make)
    assert_halves_of(whole, parts)
    assert [part.inputs["input_ids"].shape[1] for part in parts] == [24, 24]
    assert lengths.min() <= 16


def test_an_example_that_cannot_be_read_stops_the_run_by_its_name(config, tmp_path, monkeypatch):
    original = batches.host_batch

    def broken(data, features, order, step, *rest):
        if step == 3:
            raise DataError("an image is a file that Pillow reads; daisy/7.png is none")
        return original(data, features, order, step, *rest)

    monkeypatch.setattr(feed, "host_batch", broken)
    with pytest.raises(DataError, match=r"daisy/7\.png is none"):
        train(config, tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "result.json").exists()


def tune_metrics(experiment, state):
    rows, mesh = experiment.config.batch_size, experiment.mesh
    return evaluate_on(experiment.eval_step, state.variables, experiment.tune, rows, mesh)


def test_loading_leaves_no_threads_behind(config, tmp_path):
    experiment = build(dataclasses.replace(config, method="stl"))
    state = initial_state(experiment, seed=0)
    tune_metrics(experiment, state)
    before = threading.active_count()
    for _ in range(5):
        tune_metrics(experiment, state)
    assert threading.active_count() <= before + batches.THREADS


@pytest.mark.parametrize(("split", "rows"), [("train", 16), ("tune", 8), ("test", 10)])
def test_carved_splits_are_evaluated_whole_and_apart(config, finished, split, rows):
    values = evaluate(finished, split)
    assert json.loads((finished / f"evaluation-{split}.json").read_text()) == values
    assert values["accuracy"] * rows == pytest.approx(round(values["accuracy"] * rows))
    if split == "tune":
        assert values == pytest.approx(json.loads((finished / "result.json").read_text())["tune"])


def overlaps(caplog):
    return [record.message for record in caplog.records if " share " in record.message]


def test_evaluation_on_test_warns_of_what_training_knew(finished, caplog):
    evaluate(finished, "test")
    found = {message.split(" examples")[0].split("share ")[0] for message in overlaps(caplog)}
    assert found <= {
        "splits 'train-rest0.333333' and 'test' ",
        "splits 'train-tune0.333333' and 'test' ",
    }
    counts = [int(message.split("share ")[1].split()[0]) for message in overlaps(caplog)]
    assert sum(counts) == 4


def test_a_named_tune_split_that_overlaps_is_warned_of_once(config, tmp_path, caplog):
    named = dataclasses.replace(
        config, method="stl", data=dataclasses.replace(config.data, tune="test", tune_fraction=0.0)
    )
    train(named, tmp_path)
    assert len(overlaps(caplog)) == 1
    assert "splits 'train' and 'test' share 4 examples" in overlaps(caplog)[0]


def test_evaluation_says_every_overlap_once(config, tmp_path, caplog):
    named = dataclasses.replace(
        config, method="stl", data=dataclasses.replace(config.data, tune="test", tune_fraction=0.0)
    )
    train(named, tmp_path)
    caplog.clear()
    evaluate(tmp_path, "tune")
    assert len(overlaps(caplog)) == 1


def test_a_comparison_records_the_overlap(config, tmp_path):
    plain = dataclasses.replace(config.compare, methods=("stl",))
    compare(dataclasses.replace(config, compare=plain), tmp_path)
    dataset = json.loads((tmp_path / "comparison.json").read_text())["dataset"]
    assert dataset["splits"] == {"train": 16, "tune": 8, "test": 10}
    assert sum(dataset["overlap"].values()) == 4
    assert all(pair.endswith("/test") for pair in dataset["overlap"])


def test_plain_fine_tuning_is_compared_without_stores(config, tmp_path):
    plain = dataclasses.replace(config.compare, methods=("stl",))
    elsewhere = with_features(config, directory=str(tmp_path / "none"))
    compare(dataclasses.replace(elsewhere, compare=plain), tmp_path / "run")
