"""Trials in one program: the numbers, files and failures of the same trials one after another."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from tqdm import tqdm

from aft_jax.students import load_student
from aft_jax.training import build, workdir
from aft_jax.training.capacity import bytes_of_trial, trials_that_fit
from aft_jax.training.experiment import Experiment, initial_state
from aft_jax.training.group import Programs, Trial
from aft_jax.training.metrics import read_metrics
from aft_jax.training.stacked import layout_of
from aft_jax.training.together import fit_together
from aft_jax.training.trainer import fit
from aft_jax.training.tuner import Exchange, Schedule, fixed, load_schedule, replay

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


def run_together(experiment, trials, root, bar, tuner=None):
    tuner = tuner or fixed(experiment)
    return fit_together(Programs(experiment, tuner.step), tuner, trials, root / "group", bar)


def run_both(config, root, bar, pairs=PAIRS):
    experiment = build(config)
    together = trials_of(config, root / "together", pairs)
    alone = trials_of(config, root / "alone", pairs)
    outcomes = run_together(experiment, together, root, bar)
    for trial in alone:
        fit(experiment, trial.config, trial.directory, bar)
    return together, alone, outcomes


def without_time(directory):
    return [
        {key: value for key, value in line.items() if key != "steps_per_second"}
        for line in read_metrics(directory)
    ]


def assert_same_runs(together, alone, rtol=1e-5):
    for a, b in zip(together, alone, strict=True):
        ours, theirs = load_student(a.directory).variables, load_student(b.directory).variables
        for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)
        for x, y in zip(without_time(a.directory), without_time(b.directory), strict=True):
            assert list(x) == list(y)
            assert x.pop("split") == y.pop("split")
            assert x == pytest.approx(y, rel=10 * rtol, abs=rtol)


@pytest.mark.parametrize("method", ["aft", "stl"])
def test_trials_together_are_the_trials_one_by_one(config, tmp_path, bar, method):
    config = dataclasses.replace(config, method=method, steps=10)
    together, alone, outcomes = run_both(config, tmp_path, bar)
    assert_same_runs(together, alone)
    for trial, other, outcome in zip(together, alone, outcomes, strict=True):
        written: Any = workdir.result(trial.directory)
        assert written == outcome.result
        theirs: Any = workdir.result(other.directory)
        assert written["tune"] == pytest.approx(theirs["tune"], rel=1e-4)
        assert {**written, "tune": 0, "seconds": 0} == {**theirs, "tune": 0, "seconds": 0}
        assert {path.name for path in trial.directory.iterdir()} == {
            path.name for path in other.directory.iterdir() if path.name != "checkpoints"
        }


def batch_norm(config, **changes):
    student = dataclasses.replace(
        config.student,
        name="tests.training.batch_norm:batch_norm_student",
        options={},
        init_from="",
    )
    return dataclasses.replace(config, student=student, **changes)


@pytest.mark.slow
def test_batch_statistics_and_dropout_are_each_trials_own(config, tmp_path, bar):
    together, alone, _ = run_both(batch_norm(config, steps=10), tmp_path, bar)
    assert_same_runs(together, alone)
    means = [
        load_student(trial.directory).variables["batch_stats"]["BatchNorm_0"]["mean"]
        for trial in together
    ]
    assert not np.allclose(means[0], means[2])


@pytest.mark.slow
@pytest.mark.parametrize("trials", [8, 3])
def test_eight_devices_train_the_trials_of_one(config, tmp_path, bar, trials):
    """Eight trials are divided over the devices; three are not, and each batch's rows are."""
    pairs = [(1.0 + beta, seed) for seed in (0, 5) for beta in range(4)][:trials]
    groups = []
    for devices in (1, 8):
        changed = dataclasses.replace(config, devices=devices)
        groups.append(trials_of(changed, tmp_path / str(devices), pairs))
        run_together(build(changed), groups[-1], tmp_path / str(devices), bar)
    assert_same_runs(*groups)


def test_whole_trials_are_divided_where_they_come_out_even(config):
    mesh = build(dataclasses.replace(config, devices=8)).mesh
    specs = [layout_of(trials, mesh).trials.spec for trials in (8, 16, 12)]
    assert specs == [jax.P("data"), jax.P("data"), jax.P()]


def poisoned(experiment: Experiment, beta: float) -> Any:
    """The experiment's own tuner, but that a beta of `beta` gives infinity from the third step."""
    tuner = fixed(experiment)

    def step(state, current, batch, tune, root):
        bad = (current == beta) & (state.step >= 2)
        scale = jax.numpy.where(bad, jax.numpy.inf, 1.0)
        state, current, metrics = tuner.step(state, current, batch, tune, root)
        variables = jax.tree.map(lambda leaf: leaf * scale, state.variables)
        total, count = metrics["loss"]
        metrics = metrics | {"loss": (total * scale, count)}
        return state._replace(variables=variables), current, metrics

    return tuner._replace(step=step)


def test_a_trial_that_diverges_fails_alone(config, tmp_path, bar):
    experiment = build(config)
    whole, trials = trials_of(config, tmp_path / "whole"), trials_of(config, tmp_path / "hurt")
    run_together(experiment, whole, tmp_path / "whole", bar)
    outcomes = run_together(experiment, trials, tmp_path / "hurt", bar, poisoned(experiment, 30.0))
    assert [outcome.diverged for outcome in outcomes] == [False, True, False]
    assert "those of step 3 were not" in outcomes[1].reason
    assert workdir.result(trials[1].directory) is None
    assert [line["step"] for line in read_metrics(trials[1].directory)] == [2, 2]
    assert_same_runs([trials[0], trials[2]], [whole[0], whole[2]], rtol=1e-6)


def test_a_group_of_failures_stops_early(config, tmp_path):
    experiment, trials = build(config), trials_of(config, tmp_path, [(30.0, 0), (30.0, 1)])
    with tqdm(total=2 * config.steps, disable=True) as bar:
        outcomes = run_together(experiment, trials, tmp_path, bar, poisoned(experiment, 30.0))
    assert all(outcome.diverged for outcome in outcomes)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("kill_at", [3, 7])
def test_a_killed_group_ends_like_one_that_was_not(config, tmp_path, bar, monkeypatch, kill_at):
    experiment = build(config)
    whole, killed = trials_of(config, tmp_path / "whole"), trials_of(config, tmp_path / "killed")
    tuner = poisoned(experiment, 30.0)
    run_together(experiment, whole, tmp_path / "whole", bar, tuner)

    def dying(state, *rest):
        calls.append(0)
        if len(calls) > kill_at:
            raise KilledError("step")
        return compiled(state, *rest)

    calls: list[int] = []
    programs = Programs(experiment, tuner.step)
    layout, compiled, *others = programs.of(len(killed))
    with monkeypatch.context() as patch:
        patch.setattr(programs, "of", lambda trials: (layout, dying, *others))
        with pytest.raises(KilledError, match="step"):
            fit_together(programs, tuner, killed, tmp_path / "killed/group", bar)
    outcomes = run_together(experiment, killed, tmp_path / "killed", bar, tuner)
    assert [outcome.result is None for outcome in outcomes] == [False, True, False]
    for a, b in zip(killed, whole, strict=True):
        assert without_time(a.directory) == without_time(b.directory)
    for a, b in ((killed[0], whole[0]), (killed[2], whole[2])):
        weights = "student/model.safetensors"
        assert (a.directory / weights).read_bytes() == (b.directory / weights).read_bytes()


def test_an_exchange_copies_states_and_sets_betas(config, tmp_path, bar):
    """Trial 1 becomes trial 0 after four steps, and with its beta stays equal to it."""
    experiment = build(config)

    def exchange(done, scores, betas):
        return Exchange(np.array([0, 0]), np.array([5.0, 5.0]) if done else betas)

    tuner = fixed(experiment)._replace(interval=4, exchange=exchange, moves=True)
    trials = trials_of(config, tmp_path, [(5.0, 0), (100.0, 0)])
    run_together(experiment, trials, tmp_path, bar, tuner)
    first, second = (load_student(trial.directory).variables for trial in trials)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)
    assert load_schedule(trials[1].directory) == Schedule(4, (5.0, 5.0))


def test_a_replay_has_the_betas_of_its_schedule(config, tmp_path, bar):
    experiment = build(config)
    trials = trials_of(config, tmp_path, [(1.0, 0), (1.0, 1)])
    schedules = [Schedule(4, (2.0, 8.0)), Schedule(4, (3.0, 9.0))]
    run_together(experiment, trials, tmp_path, bar, replay(experiment, schedules))
    for trial, schedule in zip(trials, schedules, strict=True):
        lines = [line for line in read_metrics(trial.directory) if line["split"] == "train"]
        first, second = schedule.betas
        assert [line["beta"] for line in lines] == [first, first, second, second]
        assert load_schedule(trial.directory) == schedule


def test_the_estimate_is_above_what_the_program_needs(config):
    experiment = build(config)
    state = initial_state(experiment, 0)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert bytes_of_trial(experiment) > 2 * held


def test_as_many_trials_as_fit(config, monkeypatch):
    experiment = build(config)
    need = bytes_of_trial(experiment)
    for free, expected in ((100 * need, 15), (10 * need, 5), (0, 1)):
        monkeypatch.setattr(
            "aft_jax.training.capacity.free_memory", lambda sharding, free=free: (0, free)
        )
        capacity = trials_that_fit(experiment, 15)
        assert capacity.trials == expected
        assert f"{expected} of 15 trials in one program" in capacity.reason
    monkeypatch.setattr("aft_jax.training.capacity.SMALL_ON_CPU", need - 1)
    assert trials_that_fit(experiment, 15).trials == 1
    assert "keeps a CPU busy" in trials_that_fit(experiment, 15).reason
    monkeypatch.setattr(
        "aft_jax.training.capacity.free_memory", lambda sharding: (10 * need, 10 * need)
    )
    capacity = trials_that_fit(experiment, 15)
    assert capacity.trials == 5
    assert "free on each device" in capacity.reason
    monkeypatch.setattr("aft_jax.training.capacity.SMALL", 10)
    capacity = trials_that_fit(experiment, 15)
    assert capacity.trials == 1
    assert "one after another" in capacity.reason
