import dataclasses
import json
import pathlib

import pytest

from aft_jax.errors import UsageError
from aft_jax.experiments.comparison.records import load, save

SCHEMA = {
    "dataset": {
        "name": "digits",
        "version": "1.9",
        "splits": {"train": 100, "tune": 200, "test": 600},
        "num_classes": 10,
        "overlap": {},
        "skipped": {},
    },
    "student": {"name": "small_cnn", "parameters": 4321, "init_from": None},
    "teachers": {
        "wide_cnn": {
            "id": "flax:wide",
            "revision": "",
            "weights_sha256": "ab12",
            "parameters": 98765,
            "width": 128,
            "stores": {
                "train": {
                    "rows": 100,
                    "ids_sha256": "cd34",
                    "manifest_sha256": "ef56",
                    "extraction_seconds": 12.5,
                },
                "tune": {
                    "rows": 200,
                    "ids_sha256": "0a1b",
                    "manifest_sha256": "2c3d",
                    "extraction_seconds": None,
                },
            },
        }
    },
    "config_sha256": "0123",
    "method_options": {"stl": {}, "aft": {"combine": "concat"}, "kd": {}},
    "metric": "accuracy",
    "environment": {"jax": "0.10.2", "device": "cpu x 1"},
    "beta_search": [{"method": "aft", "beta": 3, "seed": 0, "tune": 0.81}],
    "chosen_beta": {"aft": 3.0},
    "trials": [
        {
            "method": "stl",
            "beta": 0.0,
            "seed": 0,
            "test": 0.91,
            "tune": 0.9,
            "directory": "trials/stl-seed0",
            "seconds": 1.3,
            "steps_per_second": 200.0,
            "parameters": 4321,
        }
    ],
    "failed_trials": [
        {"method": "kd", "beta": 3.0, "seed": 1, "stage": "search", "reason": "the loss is nan"}
    ],
    "failed_methods": {"kd": "no beta finished"},
}


@pytest.fixture
def raw():
    return json.loads(json.dumps(SCHEMA))


def write(workdir, raw):
    (workdir / "comparison.json").write_text(json.dumps(raw))
    return workdir


def test_the_file_holds_the_schema_key_by_key(tmp_path, raw):
    path = save(load(write(tmp_path, raw)), tmp_path / "copy")
    assert path == tmp_path / "copy" / "comparison.json"
    assert json.loads(path.read_text()) == SCHEMA


def test_what_is_saved_is_what_is_loaded(tmp_path, comparison):
    save(comparison, tmp_path)
    assert load(tmp_path) == comparison


def test_whole_numbers_are_read_as_floats(tmp_path, raw):
    beta = load(write(tmp_path, raw)).beta_search[0].beta
    assert isinstance(beta, float)


def test_further_facts_are_kept(tmp_path, raw):
    raw["dataset"]["license"] = "CC0"
    assert dict(load(write(tmp_path, raw)).dataset)["license"] == "CC0"


def test_a_failed_save_leaves_the_old_file(tmp_path, comparison, monkeypatch):
    save(comparison, tmp_path)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(pathlib.Path, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        save(dataclasses.replace(comparison, metric="f1"), tmp_path)
    assert load(tmp_path) == comparison


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(UsageError, match=r"aft-jax compare --config=CONFIG --workdir="):
        load(tmp_path)


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "comparison.json").write_text('{"dataset": {')
    with pytest.raises(UsageError, match=r"comparison\.json is not JSON .* line 1"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (("metric",), "metric"),
        (("dataset", "version"), "dataset.version"),
        (("dataset", "splits", "tune"), "dataset.splits.tune"),
        (("teachers", "wide_cnn", "width"), "teachers.wide_cnn.width"),
        (
            ("teachers", "wide_cnn", "stores", "tune", "rows"),
            "teachers.wide_cnn.stores.tune.rows",
        ),
        (("beta_search", 0, "tune"), "beta_search[0].tune"),
        (("trials", 0, "directory"), "trials[0].directory"),
    ],
)
def test_a_missing_key_is_named(tmp_path, raw, path, where):
    parent = raw
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    with pytest.raises(UsageError, match=r"is missing\. Run `aft-jax compare` again") as error:
        load(write(tmp_path, raw))
    assert f"key {where} is missing" in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", 0.5, r"trials\[0\]\.seed should be int, is 0\.5"),
        ("seed", True, r"trials\[0\]\.seed should be int, is True"),
        ("test", "0.9", r"trials\[0\]\.test should be float, is '0\.9'"),
        ("test", float("nan"), "test of 'stl' with seed 0 must be a finite number.*diverge"),
    ],
)
def test_a_wrong_value_is_named(tmp_path, raw, key, value, message):
    raw["trials"][0][key] = value
    with pytest.raises(UsageError, match=message):
        load(write(tmp_path, raw))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trials", {}, "key trials should be a list, is {}"),
        ("trials", [1], r"key trials\[0\] should be an object, is 1\."),
        ("teachers", [], r"key teachers should be an object, is \[\]"),
        ("student", "small_cnn", "key student should be an object, is 'small_cnn'"),
        ("chosen_beta", {"aft": None}, "key chosen_beta.aft should be float, is None"),
        ("failed_methods", {"kd": 1}, "key failed_methods.kd should be str, is 1"),
        ("method_options", {"kd": 1}, "key method_options.kd should be an object, is 1"),
        ("winner", "aft", "key winner is unknown; valid keys: dataset, student"),
    ],
)
def test_a_wrong_section_is_named(tmp_path, raw, key, value, message):
    raw[key] = value
    with pytest.raises(UsageError, match=message):
        load(write(tmp_path, raw))


def test_two_final_runs_of_one_seed_are_refused(comparison):
    again = dataclasses.replace(comparison.trials[0], directory="trials/again")
    with pytest.raises(
        ValueError, match=r"'stl' with seed 0 has two: trials/stl-seed0 and trials/"
    ):
        dataclasses.replace(comparison, trials=(*comparison.trials, again))


def test_a_final_run_off_the_chosen_beta_is_refused(comparison):
    with pytest.raises(UsageError, match=r"chosen_beta\.aft is 10, but trials/aft-seed0 ran at 3"):
        dataclasses.replace(comparison, chosen_beta={"aft": 10.0})
