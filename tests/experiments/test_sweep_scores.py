"""Which setting is chosen, and the table that says so."""

import dataclasses

import pytest

from aft_jax.errors import UsageError
from aft_jax.experiments.comparison.records import Trial
from aft_jax.experiments.sweeping.records import (
    Chosen,
    FailedSweepTrial,
    Sweep,
    SweepTrial,
    load_sweep,
    save_sweep,
)
from aft_jax.experiments.sweeping.scores import choose, settings_of, summarise


def trial(beta, seed, tune, teachers="ada", end_beta=None):
    directory = f"trials/{teachers}-beta{beta:g}-seed{seed}"
    return SweepTrial(teachers, beta, seed, tune, end_beta or beta, directory, 1.5)


GRID = (trial(1.0, 0, 0.80), trial(1.0, 1, 0.90), trial(3.0, 0, 0.88), trial(3.0, 1, 0.84))


def chosen(trials, tuner="grid"):
    found = choose(settings_of(trials, tuner))
    return found.teachers, found.beta


def test_the_best_mean_is_chosen():
    assert chosen(GRID) == ("ada", 3.0)


def test_of_equals_the_smallest_beta_then_the_first_set():
    trials = [trial(beta, 0, 0.5, teachers) for teachers in ("bob", "ada") for beta in (3.0, 1.0)]
    assert chosen(trials) == ("bob", 1.0)


def test_a_setting_that_lost_a_seed_is_not_chosen_over_a_whole_one():
    assert chosen((*GRID, trial(10.0, 0, 0.99))) == ("ada", 3.0)
    assert chosen((trial(1.0, 0, 0.8), trial(10.0, 1, 0.9))) == ("ada", 10.0)


def test_a_population_counts_with_its_best_member():
    trials = (
        *GRID,
        trial(1.0, 0, 0.7, "bob"),
        trial(3.0, 0, 0.99, "bob"),
        trial(1.0, 1, 0.5, "bob"),
    )
    ada, bob = settings_of(trials, "population")
    assert (ada.tune.mean, bob.tune.mean) == (pytest.approx(0.89), pytest.approx(0.745))
    assert [member.beta for member in ada.trials] == [3.0, 1.0]
    assert chosen(trials, "population") == ("ada", None)


def final(seed, test, tune):
    return Trial("aft", 3.0, seed, test, tune, f"trials/ada-beta3-seed{seed}", 1.5, 10.0, 410)


@pytest.fixture
def sweep():
    return Sweep(
        method="aft",
        method_options={},
        tuner="grid",
        teacher_sets={"ada": ("ada",), "ada+bob": ("ada", "bob")},
        dataset={
            "name": "digits",
            "version": "1.9",
            "splits": {"train": 100, "tune": 200, "test": 600},
            "num_classes": 10,
            "overlap": {},
            "skipped": {},
        },
        student={"name": "small_cnn", "parameters": 410, "init_from": None},
        teachers={},
        config_sha256="00",
        metric="accuracy",
        environment={},
        trials=GRID,
        failed=(),
        chosen=Chosen("ada", 3.0),
        retrained=False,
        final=(final(0, 0.91, 0.88), final(1, 0.93, 0.84)),
        schedules={},
    )


def test_the_table_of_a_grid(sweep):
    assert summarise(sweep).splitlines() == [
        "teachers  beta  tune accuracy   seeds",
        "ada       1     85.00 % ± 7.07  2",
        "ada       3     86.00 % ± 2.83  2      best",
        "",
        "aft, chosen on tune: ada, beta 3; test accuracy of its 2 students: 92.00 % ± 1.41",
    ]


def test_the_table_of_a_population(sweep):
    moved = dataclasses.replace(GRID[1], end_beta=12.0)
    sweep = dataclasses.replace(
        sweep,
        tuner="population",
        trials=(GRID[0], moved, *GRID[2:]),
        chosen=Chosen("ada", None),
        retrained=True,
    )
    lines = summarise(sweep).splitlines()
    assert lines[:2] == [
        "teachers  beta    beta at the end  tune accuracy   seeds",
        "ada       1 to 3  3, 12            89.00 % ± 1.41  2      best",
    ]
    assert lines[3] == (
        "aft; test accuracy of its 2 students, trained again on train and tune: 92.00 % ± 1.41"
    )
    assert "optimistic" in lines[4]


def test_failures_are_named_with_what_to_do(sweep):
    lost = FailedSweepTrial("ada+bob", 1.0, 0, "search", "trials/x", "its store is missing.")
    lines = summarise(dataclasses.replace(sweep, failed=(lost,))).splitlines()
    assert lines[-2:] == [
        "failed: trials/x: its store is missing.",
        "The same command tries again what failed, and keeps the rest.",
    ]


def test_a_record_comes_back_as_it_was(sweep, tmp_path):
    save_sweep(sweep, tmp_path)
    assert load_sweep(tmp_path) == sweep


def test_a_record_is_read_strictly(sweep, tmp_path):
    with pytest.raises(UsageError, match=r"sweep\.json; it is missing\. Make it with"):
        load_sweep(tmp_path)
    save_sweep(sweep, tmp_path)
    path = tmp_path / "sweep.json"
    path.write_text(path.read_text().replace('"tuner"', '"tunner"'))
    with pytest.raises(UsageError, match=r"key tuner is missing\. Run `aft-jax sweep` again"):
        load_sweep(tmp_path)


def test_a_record_that_contradicts_itself_is_refused(sweep):
    with pytest.raises(UsageError, match=r"names every set of a trial; \['eve'\] are not"):
        dataclasses.replace(sweep, trials=(trial(1.0, 0, 0.5, "eve"),))
    with pytest.raises(UsageError, match="one student a seed"):
        dataclasses.replace(sweep, final=(final(0, 0.9, 0.9), final(0, 0.9, 0.9)))
    with pytest.raises(UsageError, match="are finite; got"):
        trial(1.0, 0, float("nan"))
