"""The verb `compare` on digits in smoke size, every kind of method in it."""

import dataclasses
import json
import pathlib
import shutil
import sys
from typing import Any

import numpy as np
import pytest

from aft_jax.config import Config, resolve
from aft_jax.errors import ConfigError, NonFiniteError, StoreError, UsageError
from aft_jax.experiments import compare
from aft_jax.experiments.comparison import records
from aft_jax.experiments.comparison.method_runs import choose_beta
from aft_jax.experiments.comparison.records import BetaTrial
from aft_jax.features import extract, store_path
from aft_jax.training import load_predictions, step, train
from aft_jax.training.metrics import read_metrics
from configs import digits

pytestmark = pytest.mark.usefixtures("standard_promotion")

METHODS = ("stl", "aft", "kkd", "fconcat")


def stage(name: str, root: pathlib.Path, **plan) -> Config:
    """One stage of the digits config in `smoke` size, with its files under `root`."""
    raw: Any = digits.get_config(f"stage={name},smoke")
    raw.features.directory = str(root / "features")
    raw.features.splits = ("train", "tune", "test")
    raw.batch_size = 40
    if raw.student.init_from:
        raw.student.init_from = str(root / "pretrain")
    for teacher in raw.teachers.values():
        teacher.source = str(root / "teacher")
    config = resolve(raw)
    return dataclasses.replace(config, compare=dataclasses.replace(config.compare, **plan))


@pytest.fixture(scope="module")
def root(tmp_path_factory, standard_promotion) -> pathlib.Path:
    """Teacher, pre-trained student, stores, and one finished comparison in `compare`."""
    root = tmp_path_factory.mktemp("compare")
    train(stage("teacher", root), root / "teacher")
    train(stage("pretrain", root), root / "pretrain")
    extract(stage("student", root))
    compare(stage("student", root, methods=METHODS), root / "compare")
    return root


@pytest.fixture
def finished(root, tmp_path) -> pathlib.Path:
    """A copy of the finished comparison."""
    shutil.copytree(root / "compare", tmp_path / "compare")
    return tmp_path / "compare"


@pytest.fixture
def failing(monkeypatch):
    """Makes the trials fail whose directory the function says so of; gives the list of attempts."""

    module = sys.modules["aft_jax.experiments.comparison.method_runs"]
    fit = module.fit

    def install(fails) -> list[str]:
        attempts = []

        def attempt(experiment, config, directory, bar):
            attempts.append(directory.name)
            if fails(directory.name):
                raise NonFiniteError("at step 2 the loss is nan.")
            return fit(experiment, config, directory, bar)

        monkeypatch.setattr(module, "fit", attempt)
        return attempts

    return install


def files(directory: pathlib.Path, pattern: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in directory.glob(pattern)}


def test_every_kind_of_method_has_its_row(root):
    text = compare(stage("student", root, methods=METHODS), root / "compare")
    table, notes, sentence, rival = text.split("\n\n")
    head, *rows = table.splitlines()
    assert head.split("  ")[0] == "method"
    assert "normalised error" in head
    assert [row.split()[0] for row in rows] == list(METHODS)
    assert "bootstrap over seeds and test examples" in notes
    assert "Holm" in notes
    assert "aft" in sentence.split(" against stl")[0]
    assert "aft" in rival
    assert "kkd" in rival


def test_methods_without_a_beta_are_not_searched(root):
    found = records.load(root / "compare")
    assert {trial.method for trial in found.beta_search} == {"aft", "kkd"}
    assert set(found.chosen_beta) == {"aft", "kkd"}
    # Two betas and one search seed for each of two methods; two final seeds of four methods.
    assert len(found.beta_search) == 4
    assert [(trial.seed, trial.method) for trial in found.trials] == [
        (seed, method) for seed in (0, 1) for method in METHODS
    ]
    assert {trial.beta for trial in found.trials if trial.method in ("stl", "fconcat")} == {0.0}
    assert found.failed_trials == ()


def test_the_record_says_what_was_compared(root):
    config = stage("student", root, methods=METHODS)
    found = records.load(root / "compare")
    assert found.method_options == {method: {} for method in METHODS}
    teacher = found.teachers["wide_cnn"]
    assert list(teacher["stores"]) == [config.data.train, config.data.tune, config.data.test]
    for split, store in teacher["stores"].items():
        place = pathlib.Path(store_path(config, "wide_cnn", split))
        manifest = json.loads((place / "manifest.json").read_text())
        assert store["ids_sha256"] == manifest["dataset_ids_sha256"]
        assert store["rows"] == manifest["dataset_rows"]
        assert teacher["weights_sha256"] == manifest["teacher_weights_sha256"]
    sizes = {trial.method: trial.parameters for trial in found.trials}
    assert found.student["parameters"] == sizes["stl"] == sizes["aft"] != sizes["fconcat"]
    for trial in found.trials:
        lines = read_metrics(root / "compare" / trial.directory)
        rates = [line["steps_per_second"] for line in lines if line["split"] == "train"]
        assert trial.steps_per_second in rates[1:]


def test_predictions_of_test_are_the_recorded_accuracies(root):
    ids = set()
    for trial in records.load(root / "compare").trials:
        directory = root / "compare" / trial.directory
        predictions = load_predictions(directory, "test")
        assert predictions.correct.mean() == trial.test
        ids.add(tuple(predictions.ids))
        assert [line["split"] for line in read_metrics(directory)].count("test") == 1
    assert len(ids) == 1


def test_each_method_compiles_once(root, tmp_path, monkeypatch):
    """Tracing is what precedes compiling; beta and seed are arguments of one program."""
    traced = {"objective": 0, "row_predictions": 0}
    for name in traced:
        original = getattr(step, name)

        def counted(*args, name=name, original=original):
            traced[name] += 1
            return original(*args)

        monkeypatch.setattr(step, name, counted)
    methods = ("stl", "aft", "kkd")
    compare(stage("student", root, methods=methods), tmp_path)
    assert traced == {"objective": len(methods), "row_predictions": 1}


def test_a_repeated_command_does_nothing(root, finished):
    before = files(finished, "**/*")
    compare(stage("student", root, methods=METHODS), finished)
    assert files(finished, "**/*") == before


def test_an_interrupted_comparison_goes_on_where_it_stopped(root, finished, failing):
    """Killed while it scored: what is trained and scored stays, one run is scored again."""
    before = records.load(finished)
    (finished / "comparison.json").unlink()
    again = finished / before.trials[-1].directory / "predictions-test.npz"
    again.unlink()
    untouched = files(finished, "trials/*/result.json") | files(finished, "trials/*/pred*.npz")
    attempts = failing(lambda name: False)
    compare(stage("student", root, methods=METHODS), finished)
    assert attempts == []
    assert again.exists()
    now = files(finished, "trials/*/result.json") | files(finished, "trials/*/pred*.npz")
    assert {path: now[path] for path in untouched} == untouched
    assert records.load(finished).trials == before.trials
    for trial in before.trials:
        lines = read_metrics(finished / trial.directory)
        assert [line["split"] for line in lines].count("test") == 1


def test_predictions_of_other_examples_are_made_again(root, finished):
    before = records.load(finished)
    (finished / "comparison.json").unlink()
    path = finished / before.trials[0].directory / "predictions-test.npz"
    with np.load(path) as arrays:
        other = dict(arrays)
    np.savez(path, **{**other, "ids": other["ids"][::-1]})
    compare(stage("student", root, methods=METHODS), finished)
    assert load_predictions(path.parent, "test").ids.tolist() == other["ids"].tolist()
    assert records.load(finished).trials == before.trials


def test_a_record_of_an_older_version_is_written_anew(root, finished, caplog):
    before = (finished / "comparison.json").read_text()
    raw = json.loads(before)
    del raw["failed_methods"]
    (finished / "comparison.json").write_text(json.dumps(raw))
    runs = files(finished, "trials/*/result.json")
    compare(stage("student", root, methods=METHODS), finished)
    assert "key failed_methods is missing" in caplog.text
    assert (finished / "comparison.json").read_text() == before
    assert files(finished, "trials/*/result.json") == runs


def test_a_beta_that_diverges_is_out(root, tmp_path):
    """The squared gradient of 1e30 times the regularizer overflows float32."""
    config = stage("student", root, methods=("stl", "aft"), betas=(1e30, 10.0), search_seeds=(7, 8))
    text = compare(config, tmp_path)
    assert "left out: beta 1e+30 of aft failed in the search with seed 7: loss and grad" in text
    found = records.load(tmp_path)
    assert found.chosen_beta == {"aft": 10.0}
    assert {trial.beta for trial in found.beta_search} == {10.0}
    (failure,) = found.failed_trials  # seed 8 of that beta was not tried
    assert (failure.method, failure.beta, failure.seed, failure.stage) == ("aft", 1e30, 7, "search")
    assert found.failed_methods == {}


def test_what_one_of_several_processes_meets_ends_them_all(root, tmp_path, monkeypatch):
    """The others train on, and would wait for ever for one that went to its next trial."""
    config = stage("student", root, methods=("stl", "aft"), betas=(10.0,), seeds=(0,))
    module = sys.modules["aft_jax.experiments.comparison.method_runs"]

    def unreadable(*arguments):
        raise StoreError("a row of this host's copy cannot be read")

    monkeypatch.setattr(module, "fit", unreadable)
    monkeypatch.setattr(module, "met_by_all", lambda error: False)
    with pytest.raises(StoreError, match="this host's copy"):
        compare(config, tmp_path)


def test_a_method_without_a_finite_beta_is_left_out(root, tmp_path):
    config = stage("student", root, methods=("stl", "aft", "kkd"), betas=(1e30,), seeds=(0, 1))
    text = compare(config, tmp_path)
    found = records.load(tmp_path)
    assert {trial.method for trial in found.trials} == {"stl"}
    assert set(found.failed_methods) == {"aft", "kkd"}
    assert found.chosen_beta == {}
    assert found.failed_methods["aft"].startswith("no beta finished; the last failure: loss and")
    assert "failed: kkd: no beta finished" in text
    assert "No verdict: only stl was run" in text
    assert set(found.method_options) == {"stl", "aft", "kkd"}


def test_a_method_that_fails_at_the_end_is_left_out_and_tried_again(root, tmp_path, failing):
    config = stage("student", root, methods=("stl", "kkd", "aft"), betas=(10.0,))
    attempts = failing(lambda name: name == "kkd-beta10-seed0")
    text = compare(config, tmp_path)
    assert "failed: kkd: its final run with seed 0 failed: at step 2 the loss is nan." in text
    found = records.load(tmp_path)
    assert [trial.method for trial in found.trials] == ["stl", "aft", "stl", "aft"]
    assert "kkd-beta10-seed1" not in attempts
    scored = files(tmp_path, "trials/*/predictions-test.npz")
    assert not any("kkd" in path for path in scored)

    attempts = failing(lambda name: False)
    text = compare(config, tmp_path)
    assert attempts == ["kkd-beta10-seed0", "kkd-beta10-seed1"]
    assert "failed" not in text
    assert records.load(tmp_path).failed_methods == {}
    now = files(tmp_path, "trials/*/predictions-test.npz")
    assert {path: now[path] for path in scored} == scored


def test_nothing_is_written_where_no_method_finishes(root, tmp_path, failing):
    failing(lambda name: True)
    with pytest.raises(UsageError, match=r"none did\. aft: no beta finished.*; stl: its final run"):
        compare(stage("student", root, methods=("stl", "aft")), tmp_path)
    assert not (tmp_path / "comparison.json").exists()


def test_each_method_has_its_own_options(root, tmp_path):
    config = stage("student", root, betas=(10.0,), method_options={"aft_rbf": {"scales": "dense"}})
    config = dataclasses.replace(
        config,
        method="aft",
        method_options={"scales": "uniform"},
        compare=dataclasses.replace(config.compare, methods=("stl", "aft", "aft_rbf")),
    )
    compare(config, tmp_path)
    expected = {"stl": {}, "aft": {"scales": "uniform"}, "aft_rbf": {"scales": "dense"}}
    assert records.load(tmp_path).method_options == expected
    run = json.loads((tmp_path / "trials/aft_rbf-beta10-seed0/config.json").read_text())
    assert run["method_options"] == {"scales": "dense"}


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"methods": ("stl", "magic")}, r"'magic' in config\.compare\.methods: .*is one of stl,"),
        (
            {"methods": ("stl", "aft"), "method_options": {"aft": {"kernel": "cubic"}}},
            r"'aft' in config\.compare\.methods: .*'cubic'",
        ),
    ],
)
def test_a_method_that_cannot_be_built_stops_before_any_trains(root, tmp_path, plan, message):
    with pytest.raises(ConfigError, match=message):
        compare(stage("student", root, **plan), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_of_equal_betas_the_smallest_is_chosen():
    search = [
        BetaTrial("aft", beta, 0, tune) for beta, tune in ((30.0, 0.9), (10.0, 0.9), (1.0, 0.8))
    ]
    assert choose_beta(search, "aft") == 10.0
