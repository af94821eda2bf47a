"""Which trials a sweep has."""

import dataclasses

import pytest

from aft_jax.config.rules import check_rules
from aft_jax.errors import ConfigError
from aft_jax.experiments.sweeping.plan import (
    plan_trials,
    set_name,
    teacher_sets,
    trained_again,
    trial_config,
    trial_name,
)
from tests.experiments.sweeps import sweep_config


def sets(tmp_path, *entries, names=("ada", "bob", "cy")):
    return list(teacher_sets(sweep_config(tmp_path, names, teachers=entries)).values())


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("all", [("ada", "bob", "cy")]),
        ("each", [("ada",), ("bob",), ("cy",)]),
        ("leave_one_out", [("bob", "cy"), ("ada", "cy"), ("ada", "bob")]),
        ("cy+ada", [("ada", "cy")]),
        ("bob", [("bob",)]),
        ("ada+ada", [("ada",)]),
    ],
)
def test_what_an_entry_stands_for(tmp_path, entry, expected):
    assert sets(tmp_path, entry) == expected


def test_a_set_is_tried_once(tmp_path):
    found = sets(tmp_path, "all", "ada+bob", "leave_one_out", "each", names=("ada", "bob"))
    assert found == [("ada", "bob"), ("bob",), ("ada",)]


def test_an_unknown_teacher_is_refused_with_the_names(tmp_path):
    with pytest.raises(ConfigError, match="got 'ada\\+eve', of which 'eve' is none of ada, bob"):
        sets(tmp_path, "ada+eve", names=("ada", "bob"))
    with pytest.raises(ConfigError, match=r"'' is none of ada"):
        sets(tmp_path, "ada+", names=("ada",))


def test_one_teacher_cannot_be_left_out(tmp_path):
    with pytest.raises(ConfigError, match=r"needs two teachers or more; config\.teachers has ada"):
        sets(tmp_path, "leave_one_out", names=("ada",))


def test_a_method_without_teachers_has_one_set_and_one_beta(tmp_path):
    planned = plan_trials(sweep_config(tmp_path), reads_teachers=False, has_beta=False)
    assert [(t.teachers, t.names, t.beta, t.seed) for t in planned] == [
        ("none", (), 0.0, 0),
        ("none", (), 0.0, 1),
    ]


def test_the_trials_and_their_configs(tmp_path):
    config = sweep_config(tmp_path, teachers=("each",))
    planned = plan_trials(config, reads_teachers=True, has_beta=True)
    assert len(planned) == 2 * 2 * 2
    assert planned[3].directory == "trials/ada-beta30-seed1"
    made = trial_config(config, planned[3])
    assert (made.beta, made.seed, list(made.teachers)) == (30.0, 1, ["ada"])
    assert dataclasses.replace(made, beta=0.0, seed=0, teachers=config.teachers) == config


def test_two_betas_never_share_a_directory():
    names = {trial_name("ada", beta, 0) for beta in (1.0, 1.0000001, 1e-7, 123456.7)}
    assert len(names) == 4
    assert "ada-beta1-seed0" in names


def test_a_long_name_is_shortened_to_one_of_its_own():
    many = [f"teacher{number:020d}" for number in range(12)]
    names = {set_name(many), set_name(many[1:]), set_name([*many[:-1], "other"])}
    assert len(names) == 3
    assert all(len(name) < 40 for name in names)
    assert any(name.startswith("12-teachers-") for name in names)


def test_training_again_has_directories_of_its_own(tmp_path):
    planned = plan_trials(sweep_config(tmp_path), reads_teachers=True, has_beta=True)
    (again,) = trained_again(planned[:1], moving=True)
    assert (again.directory, again.follows) == ("final/ada+bob-beta1-seed0", planned[0].directory)
    assert again.joined
    assert trained_again(planned[:1], moving=False)[0].follows == ""


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"tuner": "population", "interval": 3}, r"sweep\.interval is a multiple .* got 3 and 2"),
        ({"tuner": "population", "interval": 2, "betas": (1.0,)}, r"sweep\.betas has two or more"),
        ({"tuner": "population", "interval": 2, "betas": (0.0, 1.0)}, "all above 0; got"),
        ({"tuner": "online", "betas": (0.0,)}, r"between 0\.001 and 10000 for tuner 'online'; got"),
        ({"tuner": "online", "betas": (1e5,)}, r"between 0\.001 and 10000 for tuner 'online'; got"),
    ],
)
def test_a_tuner_that_cannot_move_beta_is_refused(tmp_path, plan, message):
    with pytest.raises(ConfigError, match=message):
        check_rules(sweep_config(tmp_path, **plan))
