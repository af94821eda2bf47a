"""The page of a training run: of an untrained student on the digits, its files written by hand."""

import dataclasses
import json
from typing import Any

import jax
import pytest

from aft_jax.config import resolve
from aft_jax.errors import UsageError
from aft_jax.experiments.reporting.report import report
from aft_jax.students import save_student
from aft_jax.training import build
from aft_jax.training.experiment import initial_state
from aft_jax.training.workdir import claim, save_regularizer, write_result
from configs import digits
from tests.experiments.conftest import write_predictions
from tests.experiments.page_reader import NOTHING, read_csv, read_page


@pytest.fixture(scope="module")
def experiment():
    raw: Any = digits.get_config("smoke")
    raw.student.init_from = ""
    config = dataclasses.replace(resolve(raw), method="stl", beta=0.0, batch_size=40, devices=1)
    return build(config)


@pytest.fixture
def save_run(experiment, tmp_path):
    """Makes the directory of a finished run with this config and these tune accuracies."""

    def save(name="run", tune=0.9, environment=None, **changes):
        directory = tmp_path / name
        config = dataclasses.replace(experiment.config, **changes)
        claim(directory, config)
        variables = jax.device_get(initial_state(experiment, config.seed).variables)
        classes, options = experiment.tune.dataset.classes, dict(experiment.start.options)
        save_student(directory, "small_cnn", classes, options, config.inputs, variables)
        save_regularizer(directory, {})
        lines = [
            {"step": 2, "split": "train", "loss": 1.0, "steps_per_second": 50.0},
            {"step": 2, "split": "tune", "loss": 2.0, "accuracy": 0.5},
            {"step": 4, "split": "train", "loss": 0.9, "steps_per_second": 200.0},
            {"step": 4, "split": "tune", "loss": 0.5, "accuracy": tune},
        ]
        metrics = "".join(json.dumps(line) + "\n" for line in lines)
        (directory / "metrics.jsonl").write_text(metrics)
        result = {"step": 4, "tune": {"loss": 0.5, "accuracy": tune}, "parameters": 1234}
        more = {"environment": environment} if environment else {}
        write_result(directory, result | {"skipped": [], "seconds": 75.0} | more)
        return directory

    return save


def test_a_run_without_teachers(save_run):
    directory = save_run()
    page = read_page(report(directory))
    assert page.headings == [
        *("Result", "During training", "Before and after training", "Where the student errs"),
        *("Cost", "What was run"),
    ]
    assert "stl: accuracy 90.00 % on tune after 4 steps. A single run shows no" in page.text
    assert ["tune", "90.00", "0.5000"] in page.rows
    assert ["stl", "200", NOTHING, "1 min 15 s", "1,234"] in page.rows
    assert ["Student", "small_cnn, 1,234 parameters, starts from random weights"] in page.rows
    assert page.figures == ["learning_curves", "kernels"]
    assert f"`aft-jax evaluate --workdir={directory} --split=test` writes them" in page.text


def test_predictions_and_evaluations_are_shown(save_run):
    directory = save_run()
    (directory / "evaluation-test.json").write_text('{"loss": 0.25, "accuracy": 0.8}')
    description = (directory / "student/student.json").read_text()
    weights = (directory / "student/model.safetensors").read_bytes()
    write_predictions(directory, [0, 1, 1, 0], [0, 1, 1, 1], [0.9] * 4)
    (directory / "student/student.json").write_text(description)
    (directory / "student/model.safetensors").write_bytes(weights)
    page = read_page(report(directory))
    assert "accuracy 90.00 % on tune and 80.00 % on test" in page.text
    assert ["test", "80.00", "0.2500"] in page.rows
    assert ["stl", "75.00", "90.00", "15.00", "+15.00", "0.500", "1"] in page.rows


def test_a_run_of_lost_data_shows_the_rest(save_run, experiment, caplog):
    gone = dataclasses.replace(experiment.config.student, init_from="nowhere")
    page = read_page(report(save_run(student=gone)))
    assert page.figures == ["learning_curves"]
    assert "has no new kernels: a finished run has a student/ folder; nowhere has" in caplog.text


def test_versions_are_shown_where_the_run_kept_them(save_run):
    page = read_page(report(save_run(environment={"jax": "0.10.2"})))
    assert ["jax", "0.10.2"] in page.rows


def test_an_unfinished_run_is_refused(save_run):
    directory = save_run()
    (directory / "student/model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"has a result\.json and no student/"):
        report(directory)


def test_a_damaged_evaluation_is_named(save_run):
    directory = save_run()
    (directory / "evaluation-test.json").write_text("{")
    with pytest.raises(UsageError, match=r"evaluation-test\.json is not JSON .* --split=test` rew"):
        report(directory)


def test_runs_that_differ_in_their_seed_share_a_curve(save_run, experiment, tmp_path):
    optim = dataclasses.replace(experiment.config.optim, learning_rate=0.5)
    first, second = save_run("first", 0.8), save_run("second", 0.9, seed=1)
    third = save_run("third", 0.95, optim=optim)
    page = read_page(report(tmp_path / "out", [first, second, third, first]))
    assert "3 training runs in 2 settings; the highest tune accuracy has third" in page.text
    rate = experiment.config.optim.learning_rate
    slow, fast = f"stl, optim.learning_rate={rate}", "stl, optim.learning_rate=0.5"
    row = ["first", slow, "0", "80.00", NOTHING, "4", "200", "1 min 15 s", "1,234"]
    assert page.row("first") == row
    assert page.row("third")[1] == fast
    curves = read_csv(tmp_path / "out/report/learning_curves.csv")
    last = {line["run"]: line for line in curves if line["step"] == "4"}
    assert float(last[slow]["tune_accuracy"]) == pytest.approx(0.85)
    assert last[slow]["seeds"] == "2"
    assert last[fast]["std"] == ""


def test_settings_of_other_data_have_the_name_alone(experiment):
    from aft_jax.experiments.reporting.pages.many_runs import setting_names

    config = experiment.config
    other = dataclasses.replace(
        config, data=dataclasses.replace(config.data, name="pets", path="elsewhere")
    )
    third = dataclasses.replace(other, data=dataclasses.replace(other.data, path="third"))
    planned = dataclasses.replace(
        config, seed=9, compare=dataclasses.replace(config.compare, betas=(1.0,))
    )
    assert setting_names([config, other, third, planned]) == [
        *("stl, data.name=digits", "stl, data.name=pets", "stl, data.name=pets (2)"),
        "stl, data.name=digits",
    ]
    assert setting_names([config, planned]) == ["stl", "stl"]
