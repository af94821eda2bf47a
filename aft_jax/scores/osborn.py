"""A score for sets of teachers: what each says of the labels, and whether they agree."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Osborn(NamedTuple):
    """What `osborn` returns.

    Attributes:
        score: relevance + cohesion, between 0 and 2; larger is better.
        relevance: mean share of the labels' entropy that a teacher's prediction removes.
        cohesion: mean share of a prediction's entropy that another teacher's removes.
    """

    score: float
    relevance: float
    cohesion: float


def osborn(predictions: Sequence[np.ndarray], labels: np.ndarray) -> Osborn:
    """Relevance and cohesion of a set of teachers, of predictions on rows they were not fitted to.

        relevance = mean_m  1 - H(y | p_m) / H(y)
        cohesion  = mean_{m != l}  1 - H(p_m | p_l) / H(p_m)

    with p_m the class that teacher m's linear probe predicts (`cross_validate`) and H the entropy
    of the counted pairs. In the paper relevance and cohesion are conditional entropies too, of the
    teachers' own classifiers; a third part, the optimal transport between the teacher's data and
    yours, is left out, since features of your data are all that there is.

    Args:
        predictions: of at least two teachers, [n] classes each.
        labels: [n] the right ones.

    Returns:
        The score and its parts. The share is 1 where there is no entropy to remove.

    Raises:
        ValueError: there are fewer than two teachers, or they have other rows than the labels.

    Reference:
        Vimal, Bachu et al., "Building a Winning Team: Selecting Source Model Ensembles using a
        Submodular Transferability Estimation Approach", ICCV 2023, arXiv 2309.02429.
    """
    if len(predictions) < 2:
        raise ValueError(f"cohesion is between at least two teachers; got {len(predictions)}.")
    lengths = {len(labels), *map(len, predictions)}
    if len(lengths) > 1:
        raise ValueError(
            f"predictions and labels belong to the same rows; got {sorted(lengths)} of them."
        )
    relevance = float(np.mean([_share(labels, one) for one in predictions]))
    pairs = itertools.permutations(predictions, 2)
    cohesion = float(np.mean([_share(one, other) for one, other in pairs]))
    return Osborn(relevance + cohesion, relevance, cohesion)


def _share(target: np.ndarray, given: np.ndarray) -> float:
    """1 - H(target | given) / H(target)."""
    _, rows = np.unique(target, return_inverse=True)
    _, columns = np.unique(given, return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    whole = _entropy(table.sum(axis=1))
    if whole == 0:
        return 1.0
    return 1 - (_entropy(table.ravel()) - _entropy(table.sum(axis=0))) / whole


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-np.sum(shares * np.log(shares)))
