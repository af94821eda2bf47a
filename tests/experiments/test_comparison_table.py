import dataclasses

from aft_jax.experiments.comparison.records import FailedTrial
from aft_jax.experiments.comparison.table import INTERVAL, INTERVAL_OF_SEEDS, summarise
from aft_jax.training.predictions import save_predictions
from tests.experiments.test_bootstrap import predictions_of

MINUS = "\N{MINUS SIGN}"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_table_in_literal_numbers(comparison, tmp_path):
    """Without predictions: differences of 1, 2 and 3 points, 2 +- 2.484138; errors 0.8 of 10 %."""
    table, notes, *sentences = summarise(comparison, tmp_path).split("\n\n")
    head, plain, aft = map(cells, table.splitlines())
    expected = ["method", "beta", "test accuracy", "normalised error", "against stl", "interval"]
    assert head == [*expected, "seconds"]
    assert plain == ["stl", "90.00 % ± 0.00", "1.000", "1.5"]
    interval = f"[{MINUS}0.48, +4.48]"
    assert aft == ["aft", "3", "92.00 % ± 1.00", "0.800", "+2.00", interval, "1.5"]
    assert notes == f"({INTERVAL_OF_SEEDS})"
    assert len(sentences) == 1


def test_columns_start_below_their_heads(comparison, tmp_path):
    head, *rows = summarise(comparison, tmp_path).split("\n\n")[0].splitlines()
    for column, cell in (("test accuracy", "92.00"), ("against stl", "+2.00"), ("seconds", "1.5")):
        assert rows[1].index(cell) == head.index(column)


def test_with_predictions_the_interval_covers_the_examples_too(comparison, tmp_path):
    for trial in comparison.trials:
        (tmp_path / trial.directory).mkdir(parents=True)
        save_predictions(predictions_of(trial.test), tmp_path / trial.directory, "test")
    assert f"({INTERVAL})" in summarise(comparison, tmp_path)


def test_several_methods_are_judged_together(with_trials, tmp_path):
    many = with_trials(
        stl=[0.8, 0.8, 0.8],
        aft=[0.9, 0.9001, 0.9002],
        kd=[0.81, 0.83, 0.79],
        fconcat=[0.9, 0.9, 0.9001],
    )
    text = summarise(many, tmp_path)
    head, _, aft, kd, _ = map(cells, text.split("\n\n")[0].splitlines())
    assert head[-2:] == ["Holm p", "seconds"]
    assert aft[-2] == "< 0.001"
    # Differences 1, 3 and -1 points: t = sqrt(3) / 2 with two degrees of freedom, where
    # P(|T| > t) = 1 - t / sqrt(t^2 + 2) = 0.478; the largest of three is not multiplied.
    assert kd[-2] == "0.478"
    assert "(all 3 differences at once, Holm at 5 %: aft, fconcat differ from stl)" in text
    assert "aft lowers error by 50.0 %" in text
    assert "against kd on 3 seeds" in text


def test_a_beta_at_the_end_of_its_grid_is_said(comparison, tmp_path):
    said = "wider grid may find a better one: aft)"
    assert said not in summarise(comparison, tmp_path)  # 3 of 1, 3 and 10
    kept = tuple(trial for trial in comparison.beta_search if trial.beta != 10)
    assert said in summarise(dataclasses.replace(comparison, beta_search=kept), tmp_path)


def test_one_seed_has_neither_spread_nor_interval(with_trials, tmp_path):
    table, sentence = summarise(with_trials(stl=[0.9], aft=[0.95]), tmp_path).split("\n\n")
    assert cells(table.splitlines()[2]) == ["aft", "3", "95.00 %", "0.500", "10.5"]
    assert sentence.startswith("No verdict on aft against stl")


def test_what_failed_is_said_last(comparison, tmp_path):
    reason = "the loss is nan."
    failed = dataclasses.replace(
        comparison,
        failed_trials=(
            FailedTrial("aft", 100.0, 7, "search", reason),
            FailedTrial("kd", 30.0, 7, "search", reason),
        ),
        failed_methods={"kd": f"no beta finished; the last failure: {reason}"},
    )
    assert summarise(failed, tmp_path).split("\n\n")[-1].splitlines() == [
        "left out: beta 100 of aft failed in the search with seed 7: the loss is nan.",
        "failed: kd: no beta finished; the last failure: the loss is nan.",
        "The same command tries again what failed, and keeps the rest.",
    ]
