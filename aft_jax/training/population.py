"""Population-based tuning of beta: the worst students give way to copies of the best.

    every `interval` steps, among the trials of one seed:
        the worst quarter (at least one) takes over the state of the best ones, worst from best,
        and goes on with their beta multiplied or divided by `factor`

Reference: Jaderberg et al., "Population Based Training of Neural Networks", arXiv 1711.09846.
"""

from collections.abc import Sequence

import numpy as np

from aft_jax.config import BETA_RANGE
from aft_jax.training.experiment import Experiment
from aft_jax.training.stacked import with_fixed_beta
from aft_jax.training.tuner import Exchange, Tuner, with_beta_metric

STREAM = 1
"""Sets these random numbers apart from those of the order of rows, which has the same seeds."""


def population(experiment: Experiment, seeds: Sequence[int], interval: int, factor: float) -> Tuner:
    """The tuner of one or more populations in one group.

    Args:
        experiment: whose step is taken.
        seeds: [m] each trial's seed; equal ones form a population, which shares initial weights and
            the order of the rows.
        interval: steps between two exchanges.
        factor: above 1.

    Returns:
        The tuner.
    """

    def exchange(done: int, scores: np.ndarray, betas: np.ndarray) -> Exchange:
        sources, after = np.arange(len(betas)), betas.copy()
        for seed in dict.fromkeys(seeds) if done else ():
            members = np.flatnonzero(np.asarray(seeds) == seed)
            inside = exchanged(scores[members], betas[members], factor, (seed, STREAM, done))
            sources[members], after[members] = members[inside.sources], inside.betas
        return Exchange(sources, after)

    step = with_beta_metric(with_fixed_beta(experiment.step))
    return Tuner(step, interval, exchange, scores=True)


def exchanged(
    scores: np.ndarray, betas: np.ndarray, factor: float, entropy: tuple[int, ...]
) -> Exchange:
    """Who takes over from whom in one population.

    Args:
        scores: [p] accuracies on tune; -inf for a member that is no longer finite.
        betas: [p] the members' betas.
        factor: beta of a copy is multiplied or divided by it, with equal chances.
        entropy: of the random choice.

    Returns:
        The exchange. The i-th worst copies the i-th best, if that is better; of equal ones the
        first counts as the better.
    """
    order = np.argsort(-scores, kind="stable")
    count = max(1, len(order) // 4)
    up = np.random.default_rng(entropy).random(count) < 0.5
    sources, after = np.arange(len(order)), betas.copy()
    for worst, best, multiply in zip(order[::-1][:count], order[:count], up, strict=True):
        if scores[best] > scores[worst]:
            sources[worst] = best
            moved = betas[best] * (factor if multiply else 1 / factor)
            # No further than the range of an online tuner, unless it was there already.
            after[worst] = np.clip(
                moved, min(BETA_RANGE[0], betas[best]), max(BETA_RANGE[1], betas[best])
            )
    return Exchange(sources, after)
