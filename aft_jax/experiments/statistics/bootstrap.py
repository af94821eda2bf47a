"""What accuracies might have been with other seeds and other test examples: a two-way bootstrap.

Every replicate draws n of the n test examples and S of the S seeds, with replacement; all methods
get the same draws, so that differences between methods stay paired in both ways.

Reference: Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007.
"""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from aft_jax.errors import UsageError
from aft_jax.experiments.comparison.records import Comparison
from aft_jax.training.predictions import Predictions, load_predictions, predictions_file
from aft_jax.types import Float

REPLICATES = 10_000
SEED = 0
CHUNK = 1 << 22
"""Drawn examples that are held at once."""

OTHER_RUN = 0.005
"""Accuracies of one student on two machines differ by ties that round otherwise, not by this."""

Replicates = Mapping[str, Float[np.ndarray, " _"]]
"""method -> its accuracy, mean over the drawn seeds, in every replicate."""


def bootstrap_of(comparison: Comparison, workdir: str | os.PathLike[str]) -> Replicates | None:
    """Replicates of a comparison from what its runs predicted of each test example.

    Args:
        comparison: what was measured.
        workdir: its directory.

    Returns:
        The replicates; None where they are of no use: predictions that were never written, a
        single seed, methods with different seeds, or a metric that is not the mean of correct
        answers.

    Raises:
        UsageError: predictions are damaged, of other examples than the rest, or of another run.
    """
    seeds: dict[str, set[int]] = {}
    for trial in comparison.trials:
        seeds.setdefault(trial.method, set()).add(trial.seed)
    kinds = set(map(frozenset, seeds.values()))
    paired = len(kinds) == 1 and min(map(len, kinds)) > 1
    if comparison.metric != "accuracy" or not paired:
        return None
    directories = [pathlib.Path(workdir) / trial.directory for trial in comparison.trials]
    if not all(predictions_file(directory, "test").is_file() for directory in directories):
        return None
    return replicate(_correct_answers(comparison, directories))


def replicate(
    correct: Mapping[str, Float[np.ndarray, "s n"]],
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> dict[str, Float[np.ndarray, " _"]]:
    """Draws seeds and examples, the same for all methods.

    a_r = sum_s sum_i v_rs w_ri c_si / (S n), with v_r and w_r multinomial: S and n draws from equal
    chances.

    Args:
        correct: method -> c [S, n], 1 where the run of seed s is right on example i; the same seeds
            and examples in every method.
        replicates: how many.
        seed: of the draws.

    Returns:
        method -> a [replicates] float64.
    """
    rng = np.random.Generator(np.random.SFC64(seed))
    runs, examples = next(iter(correct.values())).shape
    columns = np.concatenate([np.asarray(c, np.float32) for c in correct.values()]).T
    columns = np.ascontiguousarray(columns)
    counts = np.empty((replicates, len(correct), runs))
    rows = max(1, CHUNK // max(examples, 1))
    for start in range(0, replicates, rows):
        part = counts[start : start + rows]
        weights = _draws(rng, len(part), examples)
        # Whole numbers below 2^24: exact in float32.
        part[:] = (weights @ columns).reshape(part.shape)
    drawn = _draws(rng, replicates, runs)
    means = np.einsum("rms,rs->mr", counts, drawn.astype(np.float64)) / (runs * examples)
    return dict(zip(correct, means, strict=True))


def _draws(rng: np.random.Generator, replicates: int, size: int) -> Float[np.ndarray, "r n"]:
    """How often each of `size` things comes up in `size` draws, [replicates, size]."""
    drawn = rng.integers(0, size, (replicates, size))
    counts = np.empty((replicates, size), np.float32)
    for row, numbers in enumerate(drawn):
        counts[row] = np.bincount(numbers, minlength=size)
    return counts


def _correct_answers(
    comparison: Comparison, directories: list[pathlib.Path]
) -> dict[str, Float[np.ndarray, "s n"]]:
    """Correct answers by method, [S, n] each, seeds in order."""
    order = np.argsort([trial.seed for trial in comparison.trials], kind="stable")
    first = load_predictions(directories[0], "test")
    rows: dict[str, list[np.ndarray]] = {trial.method: [] for trial in comparison.trials}
    for position in order.tolist():
        trial, directory = comparison.trials[position], directories[position]
        predictions = load_predictions(directory, "test")
        _require_same_examples(predictions, first, directory, directories[0])
        correct = predictions.correct.astype(np.float32)
        accuracy = float(np.mean(correct)) if len(correct) else 0.0
        if abs(accuracy - trial.test) > OTHER_RUN:
            raise UsageError(
                f"the test predictions of {directory} are those of the compared run, whose "
                f"accuracy is {trial.test:.4f}; they have {accuracy:.4f}. "
                f"`aft-jax evaluate --workdir={directory} --split=test` writes them again."
            )
        rows[trial.method].append(correct)
    return {method: np.stack(correct) for method, correct in rows.items()}


def _require_same_examples(
    one: Predictions, other: Predictions, directory: pathlib.Path, reference: pathlib.Path
) -> None:
    same = np.array_equal(one.ids, other.ids) and np.array_equal(one.labels, other.labels)
    if not same:
        raise UsageError(
            "all runs of a comparison predict the same test examples; those of "
            f"{directory} ({len(one.ids)}) differ from those of {reference} ({len(other.ids)}). "
            f"`aft-jax evaluate --workdir={directory} --split=test` writes them again."
        )
