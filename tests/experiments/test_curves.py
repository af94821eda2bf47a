import json
import math

import numpy as np
import pytest

from aft_jax.errors import UsageError
from aft_jax.experiments.reporting.curves import average, read_metric


@pytest.fixture
def write_lines(tmp_path):
    def write(*rows, end="\n"):
        text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
        (tmp_path / "metrics.jsonl").write_text(text + end)
        return tmp_path

    return write


def tune(step, accuracy):
    return {"step": step, "split": "tune", "accuracy": accuracy}


def test_a_metric_is_read_back_for_its_split_only(write_lines):
    run = write_lines(tune(50, 0.5), {"step": 50, "split": "train", "accuracy": 0.9}, tune(100, 1))
    assert read_metric(run, "tune", "accuracy") == {50: 0.5, 100: 1.0}
    assert read_metric(run, "tune", "regularizer") == {}


def test_the_last_line_of_a_step_counts(write_lines):
    run = write_lines(tune(100, 0.1), tune(50, 0.2), tune(100, 0.3))
    assert list(read_metric(run, "tune", "accuracy").items()) == [(50, 0.2), (100, 0.3)]


def test_the_unfinished_line_of_a_killed_run_is_skipped(write_lines):
    run = write_lines(tune(50, 0.5), '{"step": 100, "spl', end="")
    assert read_metric(run, "tune", "accuracy") == {50: 0.5}


@pytest.mark.parametrize("line", ['{"step": 100, "spl', '{"step": 100}', "[1, 2]", "3"])
def test_a_broken_line_is_named(write_lines, line):
    with pytest.raises(UsageError, match=r'metrics\.jsonl:2: a line is .* "step" and "split"'):
        read_metric(write_lines(tune(50, 0.5), line, tune(100, 0.5)), "tune", "accuracy")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics\.jsonl is missing"):
        read_metric(tmp_path, "tune", "accuracy")


def test_an_average_is_over_the_steps_that_all_runs_share():
    curve = average([{0: 1.0, 50: 2.0, 100: 3.0}, {0: 3.0, 100: 7.0}])
    np.testing.assert_array_equal(curve.steps, [0, 100])
    np.testing.assert_array_equal(curve.mean, [2.0, 5.0])
    # Two values that differ by 2 or by 4: deviations of 1 or 2, n - 1 = 1.
    np.testing.assert_allclose(curve.std, [math.sqrt(2), 2 * math.sqrt(2)])
    assert curve.count == 2


def test_one_run_has_no_spread():
    np.testing.assert_array_equal(average([{0: 1.0, 50: 2.0}]).std, [0.0, 0.0])


@pytest.mark.parametrize("runs", [[], [{}], [{0: 1.0}, {50: 1.0}]])
def test_runs_that_share_nothing_have_an_empty_curve(runs):
    curve = average(runs)
    assert len(curve.steps) == len(curve.mean) == len(curve.std) == 0
