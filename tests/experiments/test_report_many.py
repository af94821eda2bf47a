"""Several comparisons on one page."""

import dataclasses

import pytest

from aft_jax.errors import UsageError
from aft_jax.experiments.reporting.report import report
from tests.experiments.page_reader import NOTHING, read_csv, read_page


@pytest.fixture
def page_of(tmp_path, with_trials, write_run):
    """Makes the page of these comparisons: one mapping of method to test accuracies each."""

    def make(*scores, names=("digits", "pets")):
        runs = []
        for number, one in enumerate(scores):
            record = with_trials(**one)
            facts = {**record.dataset, "name": names[number]}
            directory = tmp_path / f"run{number}"
            directory.mkdir()
            runs.append(write_run(directory, dataclasses.replace(record, dataset=facts)))
        return report(tmp_path / "out", runs)

    return make


def test_normalised_errors_are_averaged_over_data_sets(page_of):
    # Errors 10, 5 and 20 % of 20, 10 and 20 %: aft 0.5 and 0.75, kd 1.5 on one data set alone.
    path = page_of(
        {"stl": [0.8, 0.8], "aft": [0.9, 0.9]},
        {"stl": [0.8, 0.9], "aft": [0.8, 0.95], "kd": [0.7, 0.85]},
    )
    page = read_page(path)
    assert "2 comparisons" in page.text
    assert (
        "Mean test error over 2 comparisons as a share of that of plain fine-tuning: aft 0.625."
        in page.text
    )
    assert ["aft", "0.625", "0.500", "0.750", "2"] in page.rows
    assert ["stl", "1.000", "1.000", "1.000", "2"] in page.rows
    assert ["kd", "1.500", NOTHING, "1.500", "1"] in page.rows
    assert "Of the methods of all comparisons aft has the smallest (0.625)" in page.text
    assert page.figures == ["normalised_errors"]
    overview = read_csv(path.parent / "normalised_errors.csv")
    assert [row["method"] for row in overview] == ["aft", "stl", "kd"]
    assert (path.parent / "results_1.csv").is_file()
    assert (path.parent / "results_2.csv").is_file()


def test_equal_names_are_numbered(page_of):
    page = read_page(page_of({"stl": [0.8]}, {"stl": [0.9]}, names=("digits", "digits")))
    headings = ["digits, small_cnn", "digits, small_cnn (2)"]
    assert [heading for heading in page.headings if "digits" in heading] == headings
    assert "No method was run against stl in all of 2 comparisons" in page.text


def test_a_perfect_baseline_leaves_no_ratio(page_of):
    page = read_page(page_of({"stl": [1.0, 1.0], "aft": [1.0, 0.9]}))
    assert page.figures == []


def test_a_directory_of_nothing_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"a report is about .*nothing is not there"):
        report(tmp_path, [tmp_path / "nothing"])


def test_a_file_cannot_be_written_into(tmp_path, comparison, write_run):
    workdir = write_run(tmp_path, comparison)
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(UsageError, match="--workdir is a directory that this process can write"):
        report(place, [workdir])
