"""What a reader should see in each figure: sentences computed from the numbers behind it."""

import math
from collections.abc import Mapping, Sequence

from aft_jax.experiments.comparison.records import Comparison
from aft_jax.experiments.formatting import listed, number, percent, points, quantity
from aft_jax.experiments.reporting.curves import Curve
from aft_jax.experiments.statistics.results import MethodResult, Summary, at_the_end, tune_by_beta

CHOICE_NOTE = (
    "The chosen setting is in bold. The best of many settings looks better on tune than it is: a "
    "difference within the std over seeds decides nothing."
)


def intervals(results: Sequence[MethodResult]) -> str:
    """Which intervals lie on one side of zero."""
    baseline = results[0].method
    shown = {row.method: row.difference for row in results if row.difference is not None}
    across = [name for name, row in shown.items() if row.contains_zero]
    above = [name for name, row in shown.items() if row.mean > 0 and name not in across]
    below = [name for name, row in shown.items() if row.mean < 0 and name not in across]
    parts = [
        f"{listed(names)} {'lies' if len(names) == 1 else 'lie'} {words}"
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
    text = f"{_averaged(tune)}: at step {last:,} the tune {metric} ends with {listed(ends)}"
    return text + (f", and the regularizer moves for {listed(falls)}." if falls else ".")


def learning_panels(tune: Mapping[str, Curve], baseline: str, metric: str) -> str:
    """Which curve ends highest, and how many end above the baseline."""
    ends = {name: float(curve.mean[-1]) for name, curve in tune.items()}
    best = max(ends, key=lambda name: ends[name])
    text = (
        f"{_averaged(tune)}, a panel for each: the highest tune {metric} at the end has {best} "
        f"with {percent(ends[best])} %"
    )
    if baseline not in ends:
        return f"{text}."
    above = sum(end > ends[baseline] for name, end in ends.items() if name != baseline)
    return (
        f"{text}; {above} of {len(ends) - 1} end above {baseline}, the dashed grey line of every "
        f"panel ({percent(ends[baseline])} %)."
    )


def beta_curve(
    search: Mapping[str, Mapping[float, Summary]],
    level: tuple[str, float] | None,
    *,
    rings: bool = True,
) -> str:
    """Where the search peaks, and what the best beta gains over the baseline on tune.

    Args:
        search: method -> beta -> metric on tune over seeds.
        level: name and mean tune metric of the baseline, if it was run.
        rings: whether a beta was chosen.

    Returns:
        One sentence.
    """
    parts = []
    for method, rows in search.items():
        best = max(rows, key=lambda beta: rows[beta].mean)
        score = f"{percent(rows[best].mean)} %"
        if level:
            score += f", {points(rows[best].mean - level[1])} points against {level[0]}"
        parts.append(f"{method} peaks at beta {number(best)} ({score})")
    marks = ", rings the chosen betas" if rings else ""
    return f"Dots are single runs, bars one standard deviation{marks}: {listed(parts)}."


def beta_schedules(moved: Mapping[str, tuple[int, Sequence[float]]]) -> str:
    """Where beta began and ended for each student."""
    parts = [
        f"{name} from {number(betas[0])} to {number(betas[-1])}"
        for name, (_, betas) in moved.items()
    ]
    return f"Each line is one final student; beta moved for {listed(parts)}."


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
    baseline = results[0]
    sentences = [
        f"Differences are paired: each seed of a method minus the same seed of {baseline.method}."
    ]
    sentences.append(_cover(comparison, baseline.test.mean, intervals))
    if len(intervals) > 1:
        sentences.append(
            "Each interval stands for itself: with several methods, one of them excludes zero by "
            "chance more often than one time in twenty. The adjusted p (Holm's rule) holds for all "
            "of them together: below 0.05 a difference is shown in spite of the others."
        )
    return sentences


def _averaged(curves: Mapping[str, Curve]) -> str:
    """What a line is, and its band."""
    counts = sorted({curve.count for curve in curves.values()})
    if counts == [1]:
        return "Single runs"
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return f"Mean over {seeds} seeds, bands of one standard deviation"


def _cover(comparison: Comparison, accuracy: float, intervals: Sequence[MethodResult]) -> str:
    """What an interval covers, and what it leaves out."""
    examples = comparison.dataset["splits"]["test"]
    if all(row.difference is not None and row.difference.bootstrapped for row in intervals):
        return (
            f"Intervals cover the scatter between seeds and the draw of the {examples:,} test "
            "examples: a bootstrap over both, never narrower than Student's t over the seeds."
        )
    text = "Intervals are Student's t: they cover the scatter between seeds"
    if comparison.metric != "accuracy" or examples == 0:
        return f"{text}, not the draw of the test examples."
    error = 100 * math.sqrt(max(accuracy * (1 - accuracy), 0) / examples)
    return (
        f"{text} on these {examples:,} test examples, not the draw of the examples: another test "
        f"set of this size would move an accuracy by about {error:.1f} points (one standard error)."
    )


def _chosen(method: str, beta: float, means: Mapping[float, float]) -> str:
    best = max(means, key=lambda candidate: means[candidate])
    searched = ", ".join(number(candidate) for candidate in means)
    if beta not in means or means[beta] < means[best]:
        return (
            f"{method}: beta {number(beta)} was chosen, though {number(best)} has the highest mean "
            f"on tune among {searched}."
        )
    text = f"{method}: beta {number(beta)} has the highest mean on tune among {searched}"
    if at_the_end(beta, means):
        end = "largest" if beta == max(means) else "smallest"
        return f"{text}; it is the {end} that was tried, so a wider search may find a better one."
    return f"{text}."
