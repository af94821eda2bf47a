"""Trials in one program: the numbers, files and failures of the same trials one after another."""

import dataclasses

import jax
import numpy as np
import pytest
from tqdm import tqdm

from aft_jax.students import load_student
from aft_jax.training import build, workdir
from aft_jax.training.group import Programs, Trial
from aft_jax.training.metrics import read_metrics
from aft_jax.training.together import fit_together
from aft_jax.training.trainer import fit
from aft_jax.training.tuner import fixed

PAIRS = [(1.0, 0), (30.0, 0), (1.0, 5)]


@pytest.fixture
def bar():
    with tqdm(disable=True) as bar:
        yield bar


def trials_of(config, root, pairs=PAIRS):
    trials = []
    for beta, seed in pairs:
        directory = root / f"beta{beta:g}-seed{seed}"
        changed = dataclasses.replace(config, beta=beta, seed=seed)
        workdir.claim(directory, changed)
        trials.append(Trial(changed, directory))
    return trials


def assert_same_runs(together, alone, rtol=1e-5):
    for a, b in zip(together, alone, strict=True):
        ours, theirs = load_student(a.directory).variables, load_student(b.directory).variables
        for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)
        for x, y in zip(read_metrics(a.directory), read_metrics(b.directory), strict=True):
            assert list(x) == list(y)
            for key in set(x) - {"split", "steps_per_second"}:
                assert x[key] == pytest.approx(y[key], rel=10 * rtol, abs=rtol), key


def run_both(config, root, bar, experiment=None):
    experiment = experiment or build(config)
    together, alone = trials_of(config, root / "together"), trials_of(config, root / "alone")
    tuner = fixed(experiment)
    programs = Programs(experiment, tuner.step)
    outcomes = fit_together(programs, tuner, together, root / "group", bar)
    for trial in alone:
        fit(experiment, trial.config, trial.directory, bar)
    return together, alone, outcomes


@pytest.mark.parametrize("method", ["aft", "stl"])
def test_trials_together_are_the_trials_one_by_one(config, tmp_path, bar, method):
    config = dataclasses.replace(config, method=method, steps=10)
    together, alone, outcomes = run_both(config, tmp_path, bar)
    assert_same_runs(together, alone)
    for trial, other, outcome in zip(together, alone, outcomes, strict=True):
        written = workdir.result(trial.directory)
        assert written == outcome.result
        ours, theirs = dict(written or {}), dict(workdir.result(other.directory) or {})
        for result in (ours, theirs):
            result.pop("seconds")
            result["tune"]["loss"] = round(result["tune"]["loss"], 3)
        assert ours == theirs
        assert {path.name for path in trial.directory.iterdir()} == {
            path.name for path in other.directory.iterdir() if path.name != "checkpoints"
        }
