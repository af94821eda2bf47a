import dataclasses
import json
import math
from typing import Any, cast

import numpy as np
import pytest

from aft_jax.errors import UsageError
from aft_jax.experiments.comparison.records import FailedTrial
from aft_jax.experiments.reporting.curves import average
from aft_jax.experiments.reporting.diagnostics import kernel_distance, load_diagnostics
from aft_jax.experiments.reporting.plots import drawing
from aft_jax.experiments.reporting.plots import teachers as plots_of_teachers
from aft_jax.experiments.reporting.plots import training as plots
from aft_jax.experiments.reporting.report import report
from aft_jax.experiments.statistics.results import method_results
from tests.experiments.page_reader import MINUS, NOTHING, read_csv, read_page

FIGURES = [
    *("intervals", "paired_seeds", "learning_curves", "beta_curve"),
    *("kernels", "gates", "teacher_parts"),
]


@pytest.fixture
def workdir(tmp_path, comparison, write_run):
    return write_run(tmp_path, comparison)


@pytest.fixture(scope="module")
def published(tmp_path_factory, comparison, write_run):
    """The finished report of one run, for the tests that only read it."""
    return report(write_run(tmp_path_factory.mktemp("run"), comparison)).parent


def test_the_page_shows_verdict_table_and_what_was_run(published):
    page = read_page(published / "index.html")
    assert page.headings == [
        *("Result", "During training", "How the choice was made", "What the teachers gave"),
        *("Cost", "What was run"),
    ]
    assert "No difference shown between aft and stl on 3 seeds: +2.00 points" in page.text
    none = [NOTHING] * 4
    assert page.rows[1] == ["stl", NOTHING, "90.00", "0.00", "1.000", *none, "3", "1.50 s"]
    bounds = ["+2.00", f"{MINUS}0.48", "+4.48", "0.074"]
    assert page.rows[2] == ["aft", "3", "92.00", "1.00", "0.800", *bounds, "3", "1.50 s"]
    assert ["Examples", "train 100, tune 200, test 600"] in page.rows
    student = "small_cnn, 4,321 parameters, starts from runs/digits/pretrain"
    assert ["Student", student] in page.rows
    teacher = "flax:wide, 43,210 parameters (10 × the student's), 128 features, frozen"
    assert ["Teacher wide_cnn", teacher] in page.rows
    assert ["Weights of wide_cnn", "weights ab12"] in page.rows
    assert ["Store of wide_cnn, train", "100 rows, manifest ef56"] in page.rows
    assert ["Config hash", "0123"] in page.rows
    assert ["optimizer.schedule.warmup", "20"] in page.rows
    assert ["python", "3.11.7"] in page.rows
    assert "Each of the 6 final runs scored the test split once" in page.text


def test_the_cost_of_training_and_of_extraction(published):
    # 100 rows in 12.5 s; speeds 80 and 120 of stl, 60 and 100 of aft: the first waits for the
    # compiler.
    page = read_page(published / "index.html")
    assert ["stl", "120", NOTHING, "1.50 s", "4,321"] in page.rows
    assert ["aft", "100", "+20.0%", "1.50 s", "4,321"] in page.rows
    assert ["wide_cnn", "train", "100", "128", "43,210", "12.5 s", "8"] in page.rows
    _, aft = read_csv(published / "cost.csv")
    assert float(aft["overhead"]) == pytest.approx(0.2)


def test_an_extraction_that_nobody_timed_says_so(tmp_path, comparison, write_run):
    untimed = json.loads(json.dumps(comparison.teachers))
    untimed["wide_cnn"]["stores"]["train"]["extraction_seconds"] = None
    record = dataclasses.replace(comparison, teachers=untimed)
    page = read_page(report(write_run(tmp_path, record, diagnostics=False)))
    assert ["wide_cnn", "train", "100", "128", "43,210", "not recorded", NOTHING] in page.rows


def test_teachers_and_kernels_are_measured_against_each_other(published):
    # The kernel of all and that of wide_cnn alone are equal; narrow alone is the identity: four of
    # 16 entries differ by one, R = 1/2. Zeros lack eight ones: R = sqrt(1/2).
    page = read_page(published / "index.html")
    assert ["wide_cnn", "4", "0.531", "75.0%", "0.500"] in page.rows
    assert ["narrow", "2", "0.375", "25.0%", "0.000"] in page.rows
    assert ["before training", "0.707", "0.500", "0.707"] in page.rows
    assert ["stl", "0.500", "0.000", "0.500"] in page.rows
    assert ["aft", "0.000", "0.500", "0.000"] in page.rows
    assert "wide_cnn makes 75.0 % of the teachers' kernel. Left out one at a time" in page.text
    gates = read_csv(published / "gates.csv")
    assert [row["gate"] for row in gates] == ["0.25", "0.5", "0.625", "0.75", "0.5", "0.25"]


def test_the_page_needs_no_network_no_script_and_no_second_file(published):
    page = read_page(published / "index.html")
    assert page.addresses
    assert all(address.startswith(("data:", "#section-")) for address in page.addresses)
    assert not {"script", "iframe"} & set(page.tags)
    text = (published / "index.html").read_text()
    assert "@import" not in text
    assert "url(" not in text
    assert "http" not in text


def test_every_figure_is_on_the_page_and_in_two_files(published):
    assert read_page(published / "index.html").figures == FIGURES
    for name in FIGURES:
        figure = published / "figures" / name
        assert figure.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert figure.with_suffix(".svg").read_bytes().startswith(b"<?xml")


def test_the_same_run_gives_the_same_page(published, workdir):
    page = report(workdir)
    assert page == workdir / "report" / "index.html"
    assert page.read_bytes() == (published / "index.html").read_bytes()


def test_the_table_is_a_file_with_all_digits(published):
    stl, aft = read_csv(published / "results.csv")
    assert (stl["method"], stl["mean"], stl["difference"]) == ("stl", "0.9", "")
    assert (aft["method"], aft["seeds"]) == ("aft", "3")
    # t(0.975; 2) * 0.01 / sqrt(3) around 0.02, the quantile in closed form.
    half = 0.95 / math.sqrt(0.04875) * 0.01 / math.sqrt(3)
    assert float(aft["difference_low"]) == pytest.approx(0.02 - half)
    assert float(aft["difference_high"]) == pytest.approx(0.02 + half)


def test_without_diagnostics_and_metrics_the_rest_is_shown(tmp_path, comparison, write_run):
    workdir = write_run(tmp_path, comparison, diagnostics=False)
    for path in workdir.rglob("metrics.jsonl"):
        path.unlink()
    page = read_page(report(workdir))
    assert page.figures == ["intervals", "paired_seeds", "beta_curve"]
    assert "The table holds one test score of each of the 6 final runs." in page.text


def test_any_number_of_methods_is_shown(tmp_path, with_trials, write_run):
    scores = {
        name: [0.8 + rank / 100, 0.81] for rank, name in enumerate(["kd", "ft", "rkd", "x", "y"])
    }
    page = read_page(
        report(write_run(tmp_path, with_trials(**scores, stl=[0.8, 0.8]), diagnostics=False))
    )
    assert [row[0] for row in page.rows[1:7]] == ["stl", "kd", "ft", "rkd", "x", "y"]
    assert "No difference shown between kd and y on 2 seeds" in page.text  # y is the best rival
    assert "between rkd and stl" not in page.text


def test_one_seed_shows_no_interval(tmp_path, with_trials, write_run):
    record = with_trials(stl=[0.9], aft=[0.95])
    page = read_page(report(write_run(tmp_path, record, diagnostics=False)))
    assert page.rows[2] == ["aft", "3", "95.00", NOTHING, "0.500", *[NOTHING] * 4, "1", "10.5 s"]
    assert "paired_seeds" not in page.figures
    assert "No verdict on aft against stl" in page.text


def test_names_are_shown_as_text_not_run_as_markup(tmp_path, comparison, write_run):
    name = "<script>alert(1)</script>"
    hostile = dataclasses.replace(comparison, dataset={**comparison.dataset, "name": name})
    page = read_page(report(write_run(tmp_path, hostile, diagnostics=False)))
    assert "script" not in page.tags
    assert name in page.text


def test_a_missing_config_is_named(workdir):
    (workdir / "config.json").unlink()
    with pytest.raises(UsageError, match=r"config\.json is missing: a report shows the config"):
        report(workdir)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[]", "should hold an object, holds list")]
)
def test_a_malformed_config_is_refused(workdir, text, message):
    (workdir / "config.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        report(workdir)


def test_unequal_seeds_are_refused_before_anything_is_written(tmp_path, with_trials, write_run):
    workdir = write_run(tmp_path, with_trials(stl=[0.9, 0.9], aft=[0.9]))
    with pytest.raises(UsageError, match="the same seeds on both sides"):
        report(workdir)
    assert not (workdir / "report").exists()


def test_the_test_split_scored_during_training_is_pointed_out(workdir):
    with (workdir / "trials" / "aft-seed0" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 50, "split": "test", "accuracy": 0.5}) + "\n")
    assert (
        "Caution: a final run scored the test split at 2 steps" in read_page(report(workdir)).text
    )


def test_diagnostics_are_read_back_with_the_distance(workdir):
    diagnostics = load_diagnostics(workdir)
    assert diagnostics is not None
    np.testing.assert_array_equal(diagnostics.gates["wide_cnn"], [0.25, 0.5, 0.625, 0.75])
    # The identity lacks 4 of the teacher's 16 ones: R = sqrt(4 / 16 + 1e-8).
    assert diagnostics.distances["stl"] == pytest.approx(math.sqrt(0.25 + 1e-8))
    assert diagnostics.distances["aft"] == pytest.approx(1e-4)
    assert kernel_distance(np.eye(2), np.zeros((2, 2))) == pytest.approx(math.sqrt(0.5 + 1e-8))


def test_kernels_of_other_examples_are_refused(workdir):
    np.savez(
        workdir / "diagnostics.npz", **{"kernel/stl": np.eye(3), "kernel/labels": np.arange(2)}
    )
    with pytest.raises(
        ValueError, match=r"kernel/stl has shape \(3, 3\), kernel/labels has \(2,\)"
    ):
        report(workdir)


def test_learning_curves_draw_the_mean_in_percent():
    tune = {"stl": average([{0: 0.5, 100: 0.7}, {0: 0.5, 100: 0.9}])}
    axes = plots.learning_curves(tune, {}, ["stl"], "accuracy").axes
    assert len(axes) == 1
    np.testing.assert_allclose(np.asarray(axes[0].lines[0].get_xydata()), [[0, 50], [100, 80]])


def test_intervals_draw_the_bounds_in_points(comparison):
    line = plots.intervals(method_results(comparison)).axes[0].lines[0]
    half = 0.95 / math.sqrt(0.04875) / math.sqrt(3)
    np.testing.assert_allclose(np.asarray(line.get_xdata(), float), [2 - half, 2 + half])


def test_class_boundaries_are_ticked(workdir):
    diagnostics = load_diagnostics(workdir)
    assert diagnostics is not None
    teacher, before, stl, *_ = plots_of_teachers.kernel_images(diagnostics).axes
    np.testing.assert_array_equal(teacher.xaxis.get_minorticklocs(), [-0.5, 1.5, 3.5])
    assert [label.get_text() for label in teacher.get_xticklabels()] == ["0", "1"]
    assert (teacher.get_title(), stl.get_title()) == ("teachers", "student, stl\nR = 0.500")
    assert before.get_title() == "student before\nR = 0.707"


def test_a_large_figure_is_embedded_as_pixels(monkeypatch):
    assert drawing.data_uri(b"png", b"<svg>") == "data:image/svg+xml;base64,PHN2Zz4="
    monkeypatch.setattr(drawing, "_LARGEST_SVG", 4)
    assert drawing.data_uri(b"png", b"<svg>") == "data:image/png;base64,cG5n"


def test_many_methods_differ_in_more_than_their_colour():
    methods = [f"method{number}" for number in range(17)]
    looks = drawing.looks(methods)
    assert len(set(looks.values())) == 17


def test_many_methods_get_a_panel_each(tmp_path, with_trials, write_run):
    names = [f"m{number}" for number in range(16)]
    scores = {name: [0.8 + rank / 200, 0.81] for rank, name in enumerate(names)}
    workdir = write_run(tmp_path, with_trials(stl=[0.8, 0.8], **scores), diagnostics=False)
    page = read_page(report(workdir))
    assert "of 16 end above stl, the dashed grey line of every panel (79.00 %)" in page.text


def test_names_at_the_ends_of_curves_do_not_meet():
    curves = {name: average([{0: 0.5, 100: 0.9 + place / 1e4}]) for place, name in enumerate("abc")}
    axes = plots.learning_curves(curves, {}, ["a", "b", "c"], "accuracy").axes[0]
    low, high = axes.get_ylim()
    heights = sorted(cast(Any, text).xy[1] for text in axes.texts)
    assert min(np.diff(heights)) >= 0.07 * (high - low)


def test_failures_are_told(tmp_path, comparison, write_run):
    failed = FailedTrial("kd", 3.0, 1, "search", "the loss is nan")
    record = dataclasses.replace(
        comparison, failed_trials=(failed,), failed_methods={"kd": "no beta finished"}
    )
    page = read_page(report(write_run(tmp_path, record, diagnostics=False)))
    assert "kd is left out: no beta finished" in page.text
    assert "kd at beta 3 with seed 1 failed in the search: the loss is nan" in page.text


def test_a_directory_of_something_else_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"comparison\.json \(`aft-jax compare`\), sweep\.json"):
        report(tmp_path)
    with pytest.raises(UsageError, match=r"is not there\. Check --workdir"):
        report(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="was begun and is not finished"):
        report(tmp_path)
