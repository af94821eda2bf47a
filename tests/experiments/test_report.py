import csv
import dataclasses
import html.parser
import json
import math

import numpy as np
import pytest

from aft_jax.errors import UsageError
from aft_jax.experiments import drawing, plots
from aft_jax.experiments.curves import average
from aft_jax.experiments.diagnostics import kernel_distance, load_diagnostics
from aft_jax.experiments.report import report
from aft_jax.experiments.statistics import method_results

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
FIGURES = ["intervals", "paired_seeds", "learning_curves", "beta_curve", "kernels", "gates"]


class Page(html.parser.HTMLParser):
    """What a browser would see: tags, addresses, the result table, the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.figures, self.rows, self.pieces = [], [], [], [], []
        self.in_cell = False
        self.feed(text)
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag == "figure":
            self.figures.append(dict(attrs)["id"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data):
        self.pieces.append(data)
        if self.in_cell:
            self.rows[-1][-1] += data.strip()


def read(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def workdir(tmp_path, comparison, write_run):
    return write_run(tmp_path, comparison)


@pytest.fixture(scope="module")
def published(tmp_path_factory, comparison, write_run):
    """The finished report of one run, for the tests that only read it."""
    return report(write_run(tmp_path_factory.mktemp("run"), comparison)).parent


def test_the_page_shows_verdict_table_and_what_was_run(published):
    page = read(published / "index.html")
    assert "No difference shown between aft and stl: +2.00 points of test accuracy" in page.text
    assert page.rows[1] == ["stl", NOTHING, "90.00", "0.00", NOTHING, NOTHING, "3", "1.5"]
    interval = f"{MINUS}0.48 to +4.48"
    assert page.rows[2] == ["aft", "3", "92.00", "1.00", "+2.00", interval, "3", "1.5"]
    assert ["Examples", "train 100, tune 200, test 600"] in page.rows
    student = "small_cnn, 4,321 parameters, starts from runs/digits/pretrain"
    assert ["Student", student] in page.rows
    teacher = "flax:wide, 43,210 parameters (10 × the student's), 128 features, frozen"
    assert ["Teacher wide_cnn", teacher] in page.rows
    assert ["optimizer.schedule.warmup", "20"] in page.rows
    assert ["python", "3.11.7"] in page.rows
    assert "Each of the 6 final runs scored the test split once" in page.text


def test_the_page_needs_no_network_no_script_and_no_second_file(published):
    page = read(published / "index.html")
    assert page.addresses
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "@import" not in page.text
    assert "url(" not in page.text


def test_every_figure_is_on_the_page_and_in_a_file(published):
    assert read(published / "index.html").figures == FIGURES
    for name in FIGURES:
        content = (published / "figures" / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG")


def test_the_same_run_gives_the_same_page(published, workdir):
    page = report(workdir)
    assert page == workdir / "report" / "index.html"
    assert page.read_bytes() == (published / "index.html").read_bytes()


def test_the_table_is_a_file_with_all_digits(published):
    with (published / "results.csv").open(newline="") as file:
        stl, aft = csv.DictReader(file)
    assert (stl["method"], stl["mean"], stl["difference"]) == ("stl", "0.9", "")
    assert (aft["method"], aft["metric"], aft["seeds"]) == ("aft", "accuracy", "3")
    # t(0.975; 2) * 0.01 / sqrt(3) around 0.02, the quantile in closed form.
    half = 0.95 / math.sqrt(0.04875) * 0.01 / math.sqrt(3)
    assert float(aft["difference_low"]) == pytest.approx(0.02 - half)
    assert float(aft["difference_high"]) == pytest.approx(0.02 + half)


def test_without_diagnostics_and_metrics_the_rest_is_shown(tmp_path, comparison, write_run):
    workdir = write_run(tmp_path, comparison, diagnostics=False)
    for path in workdir.rglob("metrics.jsonl"):
        path.unlink()
    page = read(report(workdir))
    assert page.figures == ["intervals", "paired_seeds", "beta_curve"]
    assert "The table holds one test score of each of the 6 final runs." in page.text


def test_any_number_of_methods_is_shown(tmp_path, with_trials, write_run):
    scores = {
        name: [0.8 + rank / 100, 0.81] for rank, name in enumerate(["kd", "ft", "rkd", "x", "y"])
    }
    page = read(
        report(write_run(tmp_path, with_trials(**scores, stl=[0.8, 0.8]), diagnostics=False))
    )
    assert [row[0] for row in page.rows[1:7]] == ["stl", "kd", "ft", "rkd", "x", "y"]
    assert "No difference shown between y and stl" in page.text


def test_one_seed_shows_no_interval(tmp_path, with_trials, write_run):
    page = read(report(write_run(tmp_path, with_trials(stl=[0.9], aft=[0.95]), diagnostics=False)))
    assert page.rows[2] == ["aft", "3", "95.00", NOTHING, NOTHING, NOTHING, "1", "10.5"]
    assert "paired_seeds" not in page.figures
    assert "No verdict on aft against stl" in page.text


def test_names_are_shown_as_text_not_run_as_markup(tmp_path, comparison, write_run):
    name = "<script>alert(1)</script>"
    hostile = dataclasses.replace(comparison, dataset={**comparison.dataset, "name": name})
    page = read(report(write_run(tmp_path, hostile, diagnostics=False)))
    assert "script" not in page.tags
    assert name in page.text


def test_a_missing_config_is_named(workdir):
    (workdir / "config.json").unlink()
    with pytest.raises(UsageError, match=r"config\.json is missing.*aft-jax compare"):
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
    assert "Caution: a final run scored the test split at 2 steps" in read(report(workdir)).text


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
    teacher, stl, *_ = plots.kernel_images(diagnostics).axes
    np.testing.assert_array_equal(teacher.xaxis.get_minorticklocs(), [-0.5, 1.5, 3.5])
    assert [label.get_text() for label in teacher.get_xticklabels()] == ["0", "1"]
    assert (teacher.get_title(), stl.get_title()) == ("teacher", "student, stl\nR = 0.500")


def test_a_large_figure_is_embedded_as_pixels(monkeypatch):
    figure = plots.gate_histograms({"wide": np.array([0.25, 0.5, 0.75])})
    assert drawing.data_uri(figure).startswith("data:image/svg+xml;base64,")
    monkeypatch.setattr(drawing, "_LARGEST_SVG", 10)
    assert drawing.data_uri(figure).startswith("data:image/png;base64,")
