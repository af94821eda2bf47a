"""What a reader should see in the figures about predictions: sentences from the numbers."""

from collections.abc import Mapping, Sequence

import numpy as np

from aft_jax.experiments.formatting import listed, percent, quantity
from aft_jax.experiments.reporting.calibration import Reliability, most_confused
from aft_jax.types import Int


def reliability(methods: Mapping[str, Reliability], errors: Mapping[str, float]) -> str:
    """Who is over- and who underconfident, and whose confidence is closest to the truth.

    Args:
        methods: method -> predictions in bins of confidence.
        errors: method -> expected calibration error.

    Returns:
        Two sentences.
    """
    over = [name for name, bins in methods.items() if bins.overconfidence > 0]
    under = [name for name in methods if name not in over]
    parts = [
        f"{listed(names)} {'is' if len(names) == 1 else 'are'} {how} on the whole"
        for names, how in ((over, "overconfident"), (under, "underconfident"))
        if names
    ]
    text = (
        "A dot is a bin of confidence, as large as its share of the predictions; on the dashed "
        "line confidence equals accuracy, below it the student is too sure. "
        f"{' and '.join(parts)}"
    )
    if len(methods) == 1:
        return f"{text}."
    best = min(errors, key=lambda name: errors[name])
    return f"{text}; the smallest error has {best} ({100 * errors[best]:.1f} points)."


def confusion(matrices: Mapping[str, Int[np.ndarray, "k k"]], classes: Sequence[str]) -> str:
    """How many predictions are wrong, and the commonest way of being wrong."""
    parts = []
    for name, matrix in matrices.items():
        total, wrong = int(matrix.sum()), int(matrix.sum() - np.trace(matrix))
        text = f"{name} is wrong in {wrong:,} of {quantity(total, 'prediction')}"
        if pairs := most_confused(matrix, 1):
            pair = pairs[0]
            text += (
                f", most often by taking {classes[pair.label]} for {classes[pair.predicted]} "
                f"({percent(pair.share, 1)} % of {classes[pair.label]})"
            )
        parts.append(text)
    return f"Grey numbers are right, shaded ones wrong, over all seeds: {'; '.join(parts)}."
