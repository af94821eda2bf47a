"""The page of a sweep, its record written by hand."""

import dataclasses

import numpy as np
import pytest

from aft_jax.experiments.reporting.report import report
from aft_jax.experiments.sweeping.records import (
    BetaSchedule,
    Chosen,
    FailedSweepTrial,
    Sweep,
    SweepTrial,
    save_sweep,
)
from tests.experiments.conftest import trials_of, write_metrics
from tests.experiments.page_reader import MINUS, NOTHING, read_csv, read_page

SETS = {"a+b": ("a", "b"), "b": ("b",), "a": ("a",)}
SCORES = {
    ("a+b", 1.0): (0.80, 0.82),
    ("a+b", 3.0): (0.90, 0.92),
    ("b", 1.0): (0.85, 0.86),
    ("b", 3.0): (0.70, 0.72),
    ("a", 3.0): (0.91, 0.92),
}


@pytest.fixture
def sweep(comparison):
    trials = [
        SweepTrial(teachers, beta, seed, tune, beta, f"trials/{teachers}-{beta:g}-{seed}", 1.0)
        for (teachers, beta), scores in SCORES.items()
        for seed, tune in enumerate(scores)
    ]
    return Sweep(
        method="aft",
        method_options={},
        tuner="grid",
        teacher_sets=SETS,
        dataset=comparison.dataset,
        student=comparison.student,
        teachers=comparison.teachers,
        config_sha256="0123",
        metric="accuracy",
        environment={"jax": "0.10.2"},
        trials=tuple(trials),
        failed=(FailedSweepTrial("a", 1.0, 0, "search", "trials/a-1-0", "the loss is nan"),),
        chosen=Chosen("a", 3.0),
        retrained=False,
        final=trials_of("aft", 3.0, [0.88, 0.90]),
        schedules={},
    )


@pytest.fixture
def write_sweep(tmp_path):
    def write(sweep):
        save_sweep(sweep, tmp_path)
        (tmp_path / "config.json").write_text('{"method": "aft"}')
        for trial in sweep.final:
            write_metrics(tmp_path / trial.directory, trial)
        return tmp_path

    return write


def test_the_search_and_what_it_chose(sweep, write_sweep):
    workdir = write_sweep(sweep)
    page = read_page(report(workdir))
    assert page.headings == [
        *("Result", "The search", "During training", "What the teachers gave", "Cost"),
        "What was run",
    ]
    # Standard deviations of 2 values that differ by 1 and by 2 points: 0.71 and 1.41.
    assert (
        "Chosen on tune: aft with beta 3 and teachers a. Test accuracy 89.00 % ± 1.41 over 2 "
        "seeds, tune 88.00 % ± 1.41." in page.text
    )
    assert ["0", "3", "87.00", "88.00", "trials/aft-seed0"] in page.rows
    assert ["a", "3", "91.50", "0.71", "0.00", "2"] in page.rows
    assert ["a+b", "1", "81.00", "1.41", f"{MINUS}10.50", "2"] in page.rows
    assert "a at beta 1 with seed 0 failed in the search: the loss is nan" in page.text
    assert "a+b peaks at beta 3 (91.00 %), b peaks at beta 1 (85.50 %) and a peaks" in page.text
    assert page.figures == ["beta_curve", "learning_curves"]
    assert ["aft", "100", NOTHING, "6.00 s", "4,321"] in page.rows


def test_a_teacher_left_out_is_judged_at_the_best_beta_of_each_set(sweep, write_sweep):
    # Without a: b at beta 1, 85 and 86 against 90 and 92. Without b: a, 91 and 92.
    workdir = write_sweep(sweep)
    page = read_page(report(workdir))
    assert ["a", "85.50", "91.00", "+5.50", "0.71", "2"] in page.rows
    assert ["b", "91.50", "91.00", f"{MINUS}0.50", "0.71", "2"] in page.rows
    first, second = read_csv(workdir / "report/leave_one_out.csv")
    assert float(first["effect"]) == pytest.approx(0.055)
    assert float(second["effect"]) == pytest.approx(-0.005)


def test_betas_that_moved_are_drawn(sweep, write_sweep):
    moved = dataclasses.replace(
        sweep,
        tuner="population",
        chosen=Chosen("a", None),
        schedules={"trials/aft-seed0": BetaSchedule(10, (3.0, 6.0, 12.0))},
    )
    page = read_page(report(write_sweep(moved)))
    assert "beta moved for seed 0 from 3 to 12." in page.text
    assert "rings the chosen" not in page.text
    assert "The chosen setting is in bold" not in page.text
    assert "beta_schedule" in page.figures
    assert "Chosen on tune: aft with teachers a. Test" in page.text


def test_a_plain_sweep_of_one_setting(sweep, write_sweep):
    plain = dataclasses.replace(
        sweep,
        method="stl",
        teacher_sets={"none": ()},
        teachers={},
        trials=(SweepTrial("none", 0.0, 0, 0.8, 0.0, "trials/none-0-0", 1.0),),
        failed=(),
        chosen=Chosen("none", 0.0),
        retrained=True,
        final=trials_of("stl", 0.0, [0.9]),
    )
    page = read_page(report(write_sweep(plain)))
    assert "They trained again on train and tune together" in page.text
    assert ["none", "0", "80.00", NOTHING, "0.00", "1"] in page.rows
    assert "beta_curve" not in page.figures
    assert "Extraction" not in page.text


def test_diagnostics_of_the_first_student_are_shown(sweep, write_sweep):
    workdir = write_sweep(sweep)
    same = np.ones((2, 2), np.float32)
    np.savez(
        workdir / sweep.final[0].directory / "diagnostics.npz",
        **{"kernel/labels": np.arange(2), "kernel/teacher": same, "kernel/aft": same},
    )
    page = read_page(report(workdir))
    assert ["aft", "0.000"] in page.rows
    assert "kernels" in page.figures


def test_a_sweep_among_many(sweep, write_sweep, tmp_path):
    workdir = write_sweep(sweep)
    page = read_page(report(tmp_path / "out", [workdir]))
    row = [workdir.name, "digits", "small_cnn", "aft", "a", "3", "88.00", "89.00", "1.41", "2"]
    assert row in page.rows
    assert "1 sweep" in page.text
