"""Soups of students whose accuracies follow from their weights by hand."""

import dataclasses
import json
import logging
import pathlib
from typing import Any

import flax.linen as nn
import numpy as np
import pytest

from aft_jax.config import resolve, to_json
from aft_jax.config.defaults import base_config
from aft_jax.data import RowOrder
from aft_jax.errors import UsageError
from aft_jax.experiments import soup
from aft_jax.students import find_start, load_student, save_student
from aft_jax.training import evaluate
from aft_jax.types import StudentOutput

pytestmark = pytest.mark.usefixtures("standard_promotion")

# The class is the sign of x + y. Students that look at x or at y alone miss two points each.
TUNE = {(3, -1): 1, (-1, 3): 1, (1, 1): 1, (-3, 1): 0, (1, -3): 0, (-1, -1): 0}
TEST = {(3, -1): 1, (1, 1): 1, (-1, -1): 0, (1, -3): 0}
BY_X, BY_Y, WRONG = (1.0, 0.0), (0.0, 1.0), (-1.0, -1.0)


class Direction(nn.Module):
    """The sign of w . x decides."""

    num_classes: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, inputs, train):
        weight = self.param("w", nn.initializers.zeros, (2,))
        score = (inputs * weight[None]).sum(1, keepdims=True) * self.gain
        return StudentOutput(score * np.array([[-1, 1]], np.float32), inputs)


def direction(num_classes, **options):
    return Direction(num_classes, **options)


class Normed(nn.Module):
    """The same after a batch normalisation."""

    num_classes: int

    @nn.compact
    def __call__(self, inputs, train):
        features = nn.BatchNorm(not train, name="norm")(inputs)
        return Direction(self.num_classes, name="direction")(features, train)


def normed(num_classes):
    return Normed(num_classes)


@pytest.fixture
def config(tmp_path):
    content: dict[str, Any] = {"class_names": np.array(["minus", "plus"])}
    for split, points in {"train": TUNE, "tune": TUNE, "test": TEST}.items():
        content[f"{split}/array"] = np.array(list(points), np.float32)
        content[f"{split}/label"] = np.array(list(points.values()), np.int32)
        content[f"{split}/id"] = np.array([f"{split}{row}" for row in range(len(points))])
    np.savez(tmp_path / "data.npz", **content)
    raw: Any = base_config()
    raw.data.update(name="signs", source="arrays", path=str(tmp_path / "data.npz"))
    raw.student.name = "tests.experiments.test_soup:direction"
    raw.update(batch_size=4, devices=1)
    return resolve(raw)


@pytest.fixture
def sweep(config, tmp_path):
    """Writes the directory of a sweep with these finished trials: name -> (weights, tune, seed)."""

    def write(trials, **options):
        workdir = tmp_path / "sweep"
        write_config(workdir, config)
        for name, (weights, tune, seed) in trials.items():
            run = workdir / "trials" / name
            write_config(run, dataclasses.replace(config, seed=seed))
            write_student(run, config, weights, **options)
            write_result(run, tune)
        return workdir

    return write


def write_config(directory, config):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(to_json(config))


def write_student(run, config, weights, name=None, options=None, classes=("minus", "plus")):
    variables = {"params": {"w": np.array(weights, np.float32)}}
    name = name or config.student.name
    save_student(run, name, classes, options or {}, config.inputs, variables)


def write_result(run, tune):
    (run / "result.json").write_text(json.dumps({"tune": {"accuracy": tune}}))


THREE = {"a": (BY_X, 4 / 6, 0), "b": (BY_Y, 4 / 6, 0), "c": (WRONG, 0.0, 0)}


def weights_of(directory):
    return load_student(directory).variables["params"]["w"].tolist()


def record_of(workdir):
    return json.loads((workdir / "soup/soup.json").read_text())


def test_both_soups_and_everything_on_test_once(sweep):
    """Greedy takes the two good ones and refuses the third; uniform adds up to zero."""
    workdir = sweep(THREE)
    text = soup(workdir)
    assert weights_of(workdir / "soup/greedy") == [0.5, 0.5]
    assert weights_of(workdir / "soup/uniform") == [0, 0]
    record = record_of(workdir)
    greedy, uniform = record["soups"]["greedy"], record["soups"]["uniform"]
    assert greedy == {"members": ["trials/a", "trials/b"], "tune": 1.0, "test": 1.0}
    # A score of zero for both classes is the first class: half of the points.
    assert uniform == {
        "members": ["trials/a", "trials/b", "trials/c"],
        "tune": pytest.approx(1 / 2),
        "test": pytest.approx(1 / 2),
    }
    assert [one["test"] for one in record["singles"]] == pytest.approx([3 / 4, 3 / 4, 0])
    assert record["best_single"]["directory"] == "trials/a"
    assert record["mean_single"]["test"] == pytest.approx(1 / 2)
    assert record["rows"] == {"tune": 6, "test": 4}
    lines = [line.split() for line in text.splitlines()]
    assert ["greedy", "soup", "2", "100.00", "100.00"] in lines
    assert ["best", "single", "on", "tune", "1", "66.67", "75.00"] in lines
    assert ["mean", "of", "the", "singles", "3", "44.44", "50.00"] in lines
    assert "The greedy soup, the better one on tune, helps: +25.00 points on test" in text
    assert "1 example of 4" in text


def test_a_soup_that_does_not_help_says_so(sweep):
    """Both get two points of six; halfway between them every point is wrong."""
    workdir = sweep({"a": ((0.5, -0.875), 2 / 6, 0), "b": ((-0.875, 0.5), 2 / 6, 0)})
    text = soup(workdir)
    assert weights_of(workdir / "soup/greedy") == [0.5, -0.875]
    soups = record_of(workdir)["soups"]
    assert soups["greedy"]["tune"] == pytest.approx(2 / 6)
    assert soups["uniform"]["tune"] == 0
    assert "No soup helps: on tune none is above the best single student. Keep trials/a." in text
    assert "below every one of its students on tune: they moved too far apart" in text


def test_a_second_time_changes_nothing_until_the_sweep_does(sweep, config):
    workdir = sweep(THREE)
    text = soup(workdir)
    written = {path: path.stat().st_mtime_ns for path in workdir.rglob("*.*")}
    assert soup(workdir) == text
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*.*")} == written
    (workdir / "soup/greedy/student/model.safetensors").unlink()
    assert soup(workdir) == text
    assert weights_of(workdir / "soup/greedy") == [0.5, 0.5]
    run = workdir / "trials/d"
    write_config(run, config)
    write_student(run, config, (1.0, 1.0))
    write_result(run, 1.0)
    soup(workdir)
    assert record_of(workdir)["best_single"]["directory"] == "trials/d"


def test_a_soup_is_a_student_to_start_from_and_to_evaluate(sweep, config):
    workdir = sweep(THREE)
    soup(workdir)
    assert evaluate(workdir / "soup/greedy", "test")["accuracy"] == 1.0
    student = dataclasses.replace(config.student, init_from=str(workdir / "soup/greedy"))
    start = find_start(student, config.inputs)
    filled = start.fill({"params": {"w": np.zeros(2, np.float32)}})
    assert filled["params"]["w"].tolist() == [0.5, 0.5]


def test_running_statistics_are_those_of_training_batches(sweep, config):
    """Not the mean of the students' own, which stay wherever training left them."""
    workdir = sweep(THREE)
    name = "tests.experiments.test_soup:normed"
    (workdir / "config.json").unlink()
    student = dataclasses.replace(config.student, name=name)
    write_config(workdir, dataclasses.replace(config, student=student))
    for run, weights in {"a": BY_X, "b": BY_Y, "c": WRONG}.items():
        norm = {"mean": np.full(2, 9, np.float32), "var": np.full(2, 9, np.float32)}
        variables = {
            "params": {
                "direction": {"w": np.array(weights, np.float32)},
                "norm": {"scale": np.ones(2, np.float32), "bias": np.zeros(2, np.float32)},
            },
            "batch_stats": {"norm": norm},
        }
        save_student(
            workdir / "trials" / run, name, ("minus", "plus"), {}, config.inputs, variables
        )
    soup(workdir)
    seen = np.array(list(TUNE), np.float64)[RowOrder(len(TUNE), 4, seed=0).batch(0)]
    found = load_student(workdir / "soup/uniform").variables
    np.testing.assert_allclose(found["batch_stats"]["norm"]["mean"], seen.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found["batch_stats"]["norm"]["var"], seen.var(0), rtol=1e-4)
    assert found["params"]["direction"]["w"].tolist() == [0, 0]


def test_only_the_seed_of_the_best_student_is_averaged(sweep, caplog):
    trials = {"a": (BY_X, 4 / 6, 7), "b": (BY_Y, 4 / 6, 7), "c": (BY_Y, 0.6, 8)}
    with caplog.at_level(logging.INFO, "aft_jax"):
        workdir = sweep(trials)
        soup(workdir)
    assert record_of(workdir)["soups"]["uniform"]["members"] == ["trials/a", "trials/b"]
    assert "the soup is of seed 7, which has the best student; the 1 of other seeds" in caplog.text


def test_runs_that_are_not_finished_or_trained_something_else_are_left_out(sweep, config, caplog):
    workdir = sweep(THREE)
    (workdir / "trials/c/result.json").unlink()
    other = workdir / "trials/linear"
    write_config(other, config)
    write_student(other, config, BY_X, name="linear_probe")
    write_result(other, 1.0)
    soup(workdir)
    assert record_of(workdir)["soups"]["uniform"]["members"] == ["trials/a", "trials/b"]
    assert "trials/c is not finished: it is left out of the soup" in caplog.text
    assert "trials/linear trained another model, linear_probe" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"gain": 2.0}}, r"has options \{\}, trials/b has \{'gain': 2\.0\}"),
        ({"classes": ("minus", "other")}, r"has classes \['minus', 'plus'\], trials/b has"),
        ({"weights": (1.0, 2.0, 3.0)}, r"weights of trials/b differ in names, shapes or dtypes"),
    ],
)
def test_students_of_another_structure_are_refused(sweep, config, changes, message):
    workdir = sweep(THREE)
    write_student(workdir / "trials/b", config, **({"weights": BY_Y} | changes))
    with pytest.raises(UsageError, match=message):
        soup(workdir)


def test_too_few_students(sweep, tmp_path):
    workdir = sweep({"a": (BY_X, 0.6, 0), "b": (BY_Y, 0.5, 1)})
    with pytest.raises(UsageError, match=r"has 2 finished ones, of seed 0 only the best\. Finish"):
        soup(workdir)
    for name in ("a", "b"):
        (workdir / "trials" / name / "result.json").unlink()
    with pytest.raises(UsageError, match="has 0 finished ones"):
        soup(workdir)
    with pytest.raises(UsageError, match=r"a run directory holds a config\.json"):
        soup(tmp_path / "nowhere")


def test_data_with_other_classes_are_refused(sweep, config):
    workdir = sweep(THREE)
    content: dict[str, Any] = dict(np.load(config.data.path))
    content["class_names"] = np.array(["no", "yes"])
    np.savez(config.data.path, **content)
    with pytest.raises(UsageError, match="minus, plus; signs now has no, yes"):
        soup(workdir)


@pytest.mark.parametrize("content", ["{", "[]", '{"singles": [], "soups": {}, "rows": {}}'])
def test_a_record_that_is_none_is_refused(sweep, content):
    workdir = sweep(THREE)
    (workdir / "soup").mkdir()
    pathlib.Path(workdir / "soup/soup.json").write_text(content)
    with pytest.raises(UsageError, match=r"soup\.json cannot be read as one: .*Delete it"):
        soup(workdir)
