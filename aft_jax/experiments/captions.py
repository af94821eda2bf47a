"""What a reader should see in each figure: sentences computed from the numbers behind it."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from aft_jax.experiments.curves import Curve
from aft_jax.experiments.diagnostics import Diagnostics
from aft_jax.experiments.formatting import number, percent, points, quantity
from aft_jax.experiments.records import Comparison
from aft_jax.experiments.statistics import MethodResult, tune_by_beta
from aft_jax.types import Float


def intervals(results: Sequence[MethodResult]) -> str:
    """Which intervals lie on one side of zero."""
    baseline = results[0].method
    shown = {row.method: row.difference for row in results if row.difference is not None}
    across = [name for name, row in shown.items() if row.contains_zero]
    above = [name for name, row in shown.items() if row.mean > 0 and name not in across]
    below = [name for name, row in shown.items() if row.mean < 0 and name not in across]
    parts = [
        f"{_listed(names)} {'lies' if len(names) == 1 else 'lie'} {words}"
        for names, words in (
            (above, f"right of it (better than {baseline})"),
            (below, f"left of it (worse than {baseline})"),
            (across, "across it (no difference shown)"),
        )
        if names
    ]
    return f"Read the side of zero: {', '.join(parts)}."


def paired_seeds(scores: Mapping[str, Mapping[int, float]]) -> str:
    """In how many seeds each method is ahead of the baseline."""
    baseline, *treatments = scores
    parts = []
    for method in treatments:
        pairs = [(scores[baseline][seed], value) for seed, value in scores[method].items()]
        ahead = sum(after > before for before, after in pairs)
        parts.append(f"{method} is ahead in {ahead} of {quantity(len(pairs), 'seed')}")
    return (
        f"Each line is one seed, from {baseline} to the method with the same seed (blue up, orange "
        f"down, grey equal; black is the mean): {', '.join(parts)}."
    )


def learning_curves(
    tune: Mapping[str, Curve], regularizer: Mapping[str, Curve], metric: str
) -> str:
    """Where the curves end, and how far the regularizer fell."""
    ends = [f"{method} at {percent(curve.mean[-1])} %" for method, curve in tune.items()]
    last = max(int(curve.steps[-1]) for curve in tune.values())
    falls = [
        f"{method} from {curve.mean[0]:.3f} to {curve.mean[-1]:.3f}"
        for method, curve in regularizer.items()
    ]
    seeds = quantity(min(curve.count for curve in tune.values()), "seed")
    text = (
        f"Mean over {seeds}, bands of one standard deviation: at step {last:,} the tune {metric} "
        f"ends with {_listed(ends)}"
    )
    return text + (f", and the regularizer moves for {_listed(falls)}." if falls else ".")


def beta_curve(comparison: Comparison, level: tuple[str, float] | None) -> str:
    """Where the search peaks, and what the chosen beta gains over the baseline on tune.

    Args:
        comparison: what was measured.
        level: name and mean tune metric of the baseline, if it was run.

    Returns:
        One sentence.
    """
    parts = []
    for method in dict.fromkeys(trial.method for trial in comparison.beta_search):
        rows = tune_by_beta(comparison.beta_search, method)
        best = max(rows, key=lambda beta: rows[beta].mean)
        score = f"{percent(rows[best].mean)} %"
        if level:
            score += f", {points(rows[best].mean - level[1])} points against {level[0]}"
        parts.append(f"{method} peaks at beta {number(best)} ({score})")
    return (
        "Dots are single runs, bars one standard deviation, rings the chosen betas: "
        f"{_listed(parts)}."
    )


def gates(gates: Mapping[str, Float[np.ndarray, " _"]]) -> str:
    """How far the gates of each teacher spread from their start."""
    parts = [
        f"{quantity(len(values), 'gate')} of {teacher} now span {values.min():.2f} to "
        f"{values.max():.2f} with {percent(float(np.mean(values > 0.5)), 0)} % above 1/2"
        for teacher, values in gates.items()
    ]
    return (
        f"All gates start at 1/2, and only their ratios matter, as rows are normalised: "
        f"{_listed(parts)}."
    )


def kernels(diagnostics: Diagnostics) -> str:
    """Which student's kernel is closest to the teacher's."""
    examples = quantity(len(diagnostics.labels), "tune example")
    opening = f"Similarity of {examples} sorted by class"
    if diagnostics.gates:
        opening += ", the teacher's by its features weighted with the learned gates"
    distances = diagnostics.distances
    if not distances:
        return f"{opening}."
    ranked = sorted(distances, key=lambda name: distances[name])
    listed = _listed([f"{name} at R = {distances[name]:.3f}" for name in ranked])
    if len(ranked) == 1:
        return f"{opening}: the student's distance to the teacher is {listed}."
    return f"{opening}: closest to the teacher is {ranked[0]} ({listed})."


def choice(comparison: Comparison, readings: int | None) -> list[str]:
    """How beta was chosen and how often the test split was used, for checking the protocol.

    Args:
        comparison: what was measured.
        readings: the most steps at which one final run scored the test split, from its metrics;
            None or 0 where they do not show it.

    Returns:
        Sentences, one point of the protocol each.
    """
    sentences = []
    for method, beta in comparison.chosen_beta.items():
        if rows := tune_by_beta(comparison.beta_search, method):
            sentences.append(_chosen(method, beta, {b: row.mean for b, row in rows.items()}))
    if not sentences:
        sentences.append("No beta was searched: the betas in the table come from the config.")
    else:
        runs = quantity(len(comparison.beta_search), "run")
        sentences.insert(0, f"The search ({runs}) was scored on the tune split only.")
    final = quantity(len(comparison.trials), "final run")
    if readings == 1:
        sentences.append(f"Each of the {final} scored the test split once, as its metrics show.")
    elif readings:
        sentences.append(
            f"Caution: a final run scored the test split at {readings} steps, so choices made "
            "after seeing those scores are not independent of it."
        )
    else:
        sentences.append(f"The table holds one test score of each of the {final}.")
    return sentences


def caveats(comparison: Comparison, results: Sequence[MethodResult]) -> list[str]:
    """What the differences mean, and what their intervals do not cover."""
    intervals = [row for row in results if row.difference is not None]
    if not intervals:
        return ["Without at least two paired seeds nothing is known about the scatter."]
    sentences = [
        f"Differences are paired: each seed of a method minus the same seed of "
        f"{results[0].method}; the interval is Student's t."
    ]
    examples = comparison.dataset["splits"]["test"]
    if comparison.metric == "accuracy" and examples > 0:
        accuracy = results[0].test.mean
        error = 100 * math.sqrt(max(accuracy * (1 - accuracy), 0) / examples)
        sentences.append(
            f"It covers the scatter between seeds on these {examples:,} test examples, not the "
            "draw of the examples: another test set of this size would move an accuracy by about "
            f"{error:.1f} points (one standard error)."
        )
    if len(intervals) > 1:
        sentences.append(
            "Each interval stands for itself: with several methods, one of them excludes zero by "
            "chance more often than one time in twenty."
        )
    return sentences


def _chosen(method: str, beta: float, means: Mapping[float, float]) -> str:
    best = max(means, key=lambda candidate: means[candidate])
    searched = ", ".join(number(candidate) for candidate in means)
    if beta not in means or means[beta] < means[best]:
        return (
            f"{method}: beta {number(beta)} was chosen, though {number(best)} has the highest mean "
            f"on tune among {searched}."
        )
    text = f"{method}: beta {number(beta)} has the highest mean on tune among {searched}"
    if len(means) > 1 and beta in (min(means), max(means)):
        end = "largest" if beta == max(means) else "smallest"
        return f"{text}; it is the {end} that was tried, so a wider search may find a better one."
    return f"{text}."


def _listed(items: Sequence[str]) -> str:
    """Items in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))
