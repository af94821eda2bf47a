"""The section on single predictions: literal students of ten examples."""

import pytest

from aft_jax.errors import UsageError
from aft_jax.experiments.reporting.pages.predictions import prediction_section
from aft_jax.experiments.reporting.report import report
from tests.experiments.conftest import CLASSES, write_predictions
from tests.experiments.page_reader import read_page

LABELS = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
STL = [0, 0, 0, 0, 1, 1, 1, 1, 0, 0]
AFT = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]


@pytest.fixture
def runs(tmp_path):
    """Confidence 0.95 everywhere: accuracy 0.7 and 0.9 are off by 0.25 and 0.05."""
    found = {"stl": [tmp_path / "stl"], "aft": [tmp_path / "aft"]}
    write_predictions(tmp_path / "stl", LABELS, STL, [0.95] * 10)
    write_predictions(tmp_path / "aft", LABELS, AFT, [0.95] * 10)
    return found


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_calibration_and_confusions_of_two_students(runs):
    section = prediction_section(runs, "test", list(CLASSES), ["stl", "aft"])
    calibration, confused, bins, pairs = section.tables
    assert texts(calibration) == [
        ["stl", "70.00", "95.00", "25.00", "+25.00", "0.500", "1"],
        ["aft", "90.00", "95.00", "5.00", "+5.00", "0.500", "1"],
    ]
    assert confused.title == "What aft confuses most"
    assert texts(confused) == [["zero", "one", "20.00", "20.00"]]
    counts = {(r[0], r[1], r[2]): int(r[3]) for r in texts(pairs)}
    assert counts["stl", "one", "zero"] == 2
    assert counts["aft", "one", "one"] == 5
    last = [row for row in bins.rows if row[0].text == "aft"][-1]
    assert [cell.value for cell in last][3:] == pytest.approx([10, 0.95, 0.9])
    assert [picture.name for picture in section.pictures] == ["reliability", "confusion"]


def test_examples_without_label_do_not_count(runs):
    (directory,) = runs["aft"]
    write_predictions(directory, [*LABELS, -1], [*AFT, 3], [0.95] * 10 + [0.1])
    section = prediction_section(runs, "test", list(CLASSES), ["stl", "aft"])
    assert texts(section.tables[0])[1][1:4] == ["90.00", "95.00", "5.00"]


def test_the_error_is_averaged_over_runs_not_over_their_predictions(tmp_path):
    # One run is right always, one never: off by 0.2 and 0.8, mean 0.5. Together: |0.5 - 0.8|.
    for name, predicted in (("right", LABELS), ("wrong", [1 - label for label in LABELS])):
        write_predictions(tmp_path / name, LABELS, predicted, [0.8] * 10)
    runs = {"stl": [tmp_path / "right", tmp_path / "wrong"]}
    section = prediction_section(runs, "test", list(CLASSES), ["stl"])
    assert texts(section.tables[0]) == [["stl", "50.00", "80.00", "50.00", "+30.00", "0.500", "2"]]


def test_many_classes_are_listed_not_drawn(runs):
    names = [f"class {number}" for number in range(21)]
    section = prediction_section(runs, "test", names, ["stl", "aft"])
    assert [picture.name for picture in section.pictures] == ["reliability"]
    assert section.tables[1].name == "most_confused"


def test_students_without_predictions_are_left_out(runs, tmp_path):
    section = prediction_section(runs | {"kd": [tmp_path / "kd"]}, "test", list(CLASSES), ["stl"])
    assert [row[0] for row in texts(section.tables[0])] == ["stl", "aft"]
    nothing = prediction_section({"kd": [tmp_path / "kd"]}, "test", list(CLASSES), ["kd"])
    assert not nothing.tables


def test_perfect_students_have_no_confusions(tmp_path):
    write_predictions(tmp_path / "stl", LABELS, LABELS, [1.0] * 10)
    section = prediction_section({"stl": [tmp_path / "stl"]}, "test", list(CLASSES), ["stl"])
    assert [table.name for table in section.tables] == ["calibration", "reliability", "confusion"]
    assert "is wrong in 0 of 10 predictions." in section.pictures[1].caption


def test_predictions_of_other_classes_are_refused(runs):
    with pytest.raises(UsageError, match=r"of the 1 classes of the student; .* has class 1\. `aft"):
        prediction_section(runs, "test", ["zero"], ["stl"])


def test_a_comparison_shows_them(tmp_path, with_trials, write_run):
    workdir = write_run(tmp_path, with_trials(stl=[0.7], aft=[0.9]), diagnostics=False)
    write_predictions(tmp_path / "trials/stl-seed0", LABELS, STL, [0.95] * 10)
    write_predictions(tmp_path / "trials/aft-seed0", LABELS, AFT, [0.95] * 10)
    page = read_page(report(workdir))
    assert ["aft", "90.00", "95.00", "5.00", "+5.00", "0.500", "1"] in page.rows
    assert ["zero", "one", "20.00", "20.00"] in page.rows
    assert page.figures[-2:] == ["reliability", "confusion"]
