"""The `sweep` verb, run: what it leaves, what it keeps, what it does about failures."""

import dataclasses
import importlib
import json
import shutil
from typing import Any

import jax
import numpy as np
import pytest

from aft_jax.errors import NonFiniteError, UsageError
from aft_jax.experiments import sweep
from aft_jax.experiments.sweeping.data import SharedData
from aft_jax.experiments.sweeping.records import load_sweep
from aft_jax.features import extract
from aft_jax.students import load_student
from aft_jax.training import evaluate, train
from aft_jax.training.batches import teacher_features
from aft_jax.training.metrics import read_metrics
from aft_jax.training.sharding import row_sharded
from aft_jax.training.workdir import read_config, result
from tests.experiments.sweeps import sweep_config, with_plan

pytestmark = pytest.mark.usefixtures("standard_promotion")

runs = importlib.import_module("aft_jax.experiments.sweeping.runs")


def snapshot(directory):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_sweep_from_end_to_end(sweep_root, tmp_path):
    config = sweep_config(sweep_root, teachers=("all", "ada"))
    said = sweep(config, tmp_path)
    found = load_sweep(tmp_path)
    assert said.count("\n") == 6
    assert len(found.trials) == 8
    for trial in found.trials:
        directory = tmp_path / trial.directory
        written: Any = result(directory)
        assert written["tune"]["accuracy"] == trial.tune
        assert read_config(directory).beta == trial.beta == trial.end_beta
        assert evaluate(directory)["accuracy"] == pytest.approx(trial.tune)
    assert not (tmp_path / "groups").exists()
    means = {
        setting: np.mean([t.tune for t in found.trials if (t.teachers, t.beta) == setting])
        for setting in {(trial.teachers, trial.beta) for trial in found.trials}
    }
    assert found.chosen.beta is not None
    assert means[found.chosen.teachers, found.chosen.beta] == max(means.values())
    assert [trial.seed for trial in found.final] == [0, 1]
    for trial in found.final:
        assert evaluate(tmp_path / trial.directory, "test")["accuracy"] == pytest.approx(trial.test)
    assert {name: facts["width"] for name, facts in found.teachers.items()} == {"ada": 6, "bob": 6}
    before = snapshot(tmp_path)
    assert sweep(config, tmp_path) == said
    assert snapshot(tmp_path) == before


def test_only_the_students_are_looked_at_on_test(sweep_root, tmp_path):
    sweep(sweep_config(sweep_root), tmp_path)
    found = load_sweep(tmp_path)
    looked_at = {
        trial.directory
        for trial in found.trials
        if any(line["split"] == "test" for line in read_metrics(tmp_path / trial.directory))
    }
    assert looked_at == {trial.directory for trial in found.final}


@pytest.mark.slow
def test_one_after_another_chooses_the_same(sweep_root, tmp_path):
    for together in (0, 1):
        sweep(sweep_config(sweep_root, together=together), tmp_path / str(together))
    first, other = (load_sweep(tmp_path / str(together)) for together in (0, 1))
    assert other.chosen == first.chosen
    assert [t.tune for t in other.trials] == pytest.approx([t.tune for t in first.trials])
    assert [t.test for t in other.final] == pytest.approx([t.test for t in first.final])


def test_a_trial_is_what_train_would_give(sweep_root, tmp_path):
    config = sweep_config(sweep_root, together=1, betas=(3.0,), seeds=(4,))
    sweep(config, tmp_path / "sweep")
    train(dataclasses.replace(config, beta=3.0, seed=4), tmp_path / "alone")
    weights = "student/model.safetensors"
    assert (tmp_path / "sweep/trials/ada+bob-beta3-seed4" / weights).read_bytes() == (
        tmp_path / "alone" / weights
    ).read_bytes()


class KilledError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("together", [0, 1])
def test_an_interrupted_sweep_trains_what_is_left(sweep_root, tmp_path, monkeypatch, together):
    config = sweep_config(sweep_root, together=together, teachers=("ada", "bob"))
    original = runs._SetRunner._fit
    done: list[str] = []

    def fit(self, trials):
        if len(done) >= 4:
            raise KilledError("now")
        done.extend(trial.directory for trial in trials)
        return original(self, trials)

    with monkeypatch.context() as patch:
        patch.setattr(runs._SetRunner, "_fit", fit)
        with pytest.raises(KilledError, match="now"):
            sweep(config, tmp_path)
    assert not (tmp_path / "sweep.json").exists()
    before = {name: snapshot(tmp_path / name / "student") for name in done}
    assert len(before) == 4
    # How trials are grouped is free to change.
    sweep(with_plan(config, together=1 - together), tmp_path)
    assert {name: snapshot(tmp_path / name / "student") for name in done} == before
    assert len(load_sweep(tmp_path).trials) == 8


def test_a_missing_store_fails_the_sets_that_need_it(sweep_root, tmp_path, caplog):
    shutil.copytree(sweep_root / "features/ada", tmp_path / "features/ada")
    config = sweep_config(tmp_path, teachers=("each", "all"))
    said = sweep(config, tmp_path / "run")
    found = load_sweep(tmp_path / "run")
    assert {trial.teachers for trial in found.failed} == {"bob", "ada+bob"}
    assert {trial.teachers for trial in found.trials} == {"ada"}
    assert "failed: trials/bob-beta1-seed0" in said
    assert "bob failed, the rest go on" in caplog.text
    shutil.copytree(sweep_root / "features/bob", tmp_path / "features/bob")
    sweep(config, tmp_path / "run")
    found = load_sweep(tmp_path / "run")
    assert (found.failed, len(found.trials)) == ((), 12)


def diverging(config, **plan):
    """A rate at which the first step already overflows."""
    optim = dataclasses.replace(config.optim, learning_rate=1e38)
    return with_plan(dataclasses.replace(config, optim=optim), **plan)


@pytest.mark.parametrize("together", [0, 1])
def test_nothing_finished(sweep_root, tmp_path, together):
    config = diverging(sweep_config(sweep_root), together=together)
    with pytest.raises(NonFiniteError, match=r"needs a trial that finishes; none did\. loss and"):
        sweep(config, tmp_path)
    assert not (tmp_path / "sweep.json").exists()


def test_a_config_that_cannot_be_built_claims_nothing(sweep_root, tmp_path):
    config = dataclasses.replace(sweep_config(sweep_root), batch_size=5000)
    with pytest.raises(UsageError, match="batch_size is at most the rows"):
        sweep(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_out_of_memory_goes_on_in_halves(sweep_root, tmp_path, monkeypatch):
    sizes = []
    original = runs.fit_together

    def fit_together(programs, tuner, trials, *rest):
        sizes.append(len(trials))
        if len(trials) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")
        return original(programs, tuner, trials, *rest)

    monkeypatch.setattr(runs, "fit_together", fit_together)
    sweep(sweep_config(sweep_root), tmp_path)
    assert sizes == [4, 2, 2]
    assert len(load_sweep(tmp_path).trials) == 4


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["grid", "population", "online"])
def test_training_again_on_train_and_tune(sweep_root, tmp_path, tuner):
    config = sweep_config(sweep_root, tuner=tuner, retrain=True, interval=2, betas=(1.0, 30.0))
    said = sweep(config, tmp_path)
    found = load_sweep(tmp_path)
    assert "trained again on train and tune" in said
    assert found.retrained
    judged = {trial.directory: trial for trial in found.trials}
    for trial in found.final:
        assert trial.directory.startswith("final/")
        searched = judged[trial.directory.replace("final/", "trials/")]
        assert trial.tune == searched.tune
        assert evaluate(tmp_path / trial.directory, "test")["accuracy"] == pytest.approx(trial.test)
        ours, before = (
            load_student(tmp_path / directory).variables
            for directory in (trial.directory, searched.directory)
        )
        assert any(
            not np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(before), strict=True)
        )
        if tuner != "grid":
            kept = json.loads((tmp_path / searched.directory / "betas.json").read_text())
            assert list(found.schedules[trial.directory].betas) == kept["betas"]
    assert bool(found.schedules) == (tuner != "grid")


@pytest.mark.slow
def test_a_linear_probe_is_swept_and_trained_again(sweep_root, tmp_path):
    """No beta, features in place of a student, and stores of each split apart."""
    shutil.copytree(sweep_root / "features", tmp_path / "features")
    config = dataclasses.replace(sweep_config(tmp_path, ("ada",), retrain=True), method="fconcat")
    features = dataclasses.replace(config.features, splits=("train", "tune", "test"))
    config = dataclasses.replace(config, features=features)
    extract(config)
    sweep(config, tmp_path / "run")
    found = load_sweep(tmp_path / "run")
    assert [(t.teachers, t.beta) for t in found.trials] == [("ada", 0.0)] * 2
    assert [t.directory for t in found.final] == [f"final/ada-beta0-seed{s}" for s in (0, 1)]


def test_features_are_shared_between_sets(sweep_root):
    data = SharedData(sweep_config(sweep_root))
    config = data.config
    both = data.experiment(config)
    alone = data.experiment(dataclasses.replace(config, teachers={"bob": config.teachers["bob"]}))
    rows = np.array([3, 0, 7])
    assert both.features is not None
    assert alone.features is not None
    expected = teacher_features(config, both.train.dataset, row_sharded(both.mesh))
    for name in ("ada", "bob"):
        want = expected.batch(rows, None)[0][name]
        np.testing.assert_array_equal(both.features.batch(rows, None)[0][name], want)
    found, present = alone.features.batch(rows, None)
    assert list(found) == ["bob"]
    assert present.tolist() == [1, 1, 1]
    assert len(data._features) == 2


def test_train_and_tune_as_one(sweep_root):
    data = SharedData(sweep_config(sweep_root))
    config, joined = data.config, data.experiment(data.config, on_both=True)
    train_rows, tune_rows = len(data.data.train.dataset), len(data.data.tune.dataset)
    assert len(joined.train.dataset) == train_rows + tune_rows
    rows = np.array([train_rows + 5, 2])
    first, second = data.data.train, data.data.tune
    assert joined.train.dataset.ids[rows].tolist() == [second.dataset.ids[5], first.dataset.ids[2]]
    np.testing.assert_array_equal(
        joined.train.inputs(rows),
        np.concatenate([second.inputs(np.array([5])), first.inputs(np.array([2]))]),
    )
    assert joined.features is not None
    sharding = row_sharded(joined.mesh)
    tune = teacher_features(config, second.dataset, sharding).batch(np.array([5]), None)[0]
    train = teacher_features(config, first.dataset, sharding).batch(np.array([2]), None)[0]
    found, present = joined.features.batch(rows, None)
    for name in ("ada", "bob"):
        np.testing.assert_array_equal(found[name], np.concatenate([tune[name], train[name]]))
    assert present.tolist() == [1, 1]
