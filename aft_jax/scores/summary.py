"""All scores of one set of features, their moments computed once."""

from typing import NamedTuple

import numpy as np

from aft_jax.scores.alignment import alignment_of
from aft_jax.scores.cross_validation import CrossValidation, cross_validate
from aft_jax.scores.h_score import h_score_of
from aft_jax.scores.labelled import labelled
from aft_jax.scores.logme import logme_of
from aft_jax.scores.moments import moments
from aft_jax.scores.ped import ped_of
from aft_jax.scores.tmi import tmi_of


class Scores(NamedTuple):
    """What `score` returns.

    Attributes:
        probe: of `cross_validate`.
        logme: of `logme`.
        h_score: of `h_score`.
        tmi: of `tmi`.
        ped: of `ped`.
        alignment: of `alignment`.
    """

    probe: CrossValidation
    logme: float
    h_score: float
    tmi: float
    ped: float
    alignment: float


def score(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Scores:
    """Every score of features.

    Args:
        features: [n, t] of any float type.
        labels: [n] class indices; rows of -1 are left out.
        num_classes: k.

    Returns:
        The scores.

    Raises:
        ValueError: features or labels break a rule, fewer than two classes have rows, or there are
            fewer rows than folds.
    """
    sums = moments(labelled(features, labels, num_classes))
    return Scores(
        probe=cross_validate(features, labels, num_classes),
        logme=logme_of(sums).score,
        h_score=h_score_of(sums),
        tmi=tmi_of(sums),
        ped=ped_of(sums),
        alignment=alignment_of(sums),
    )
