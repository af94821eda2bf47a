"""Splits by a hash of the example's id, never by its position or by a random state."""

import hashlib
import math
from collections.abc import Mapping

import numpy as np


def stratified_splits(
    ids: np.ndarray, labels: np.ndarray, fractions: Mapping[str, float], salt: str
) -> dict[str, np.ndarray]:
    """Cuts a data set into named splits with the same share of every class.

    Within each class the examples are ordered by a hash of (salt, id) and dealt out in that order,
    so an example's split does not depend on the order of the file.

    Args:
        ids: [n] example ids.
        labels: [n] class indices.
        fractions: split name -> share of the examples; they add up to one.
        salt: names this way of cutting; another salt gives another, independent one.

    Returns:
        Split name -> sorted positions; every example is in exactly one.

    Raises:
        ValueError: the fractions do not add up to one.
    """
    if not math.isclose(sum(fractions.values()), 1.0):
        raise ValueError(f"split fractions add up to 1; got {dict(fractions)}.")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in fractions}
    edges = np.cumsum([0.0, *fractions.values()])
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        keys = [hashlib.sha256(f"{salt}/{ids[row]}".encode()).hexdigest() for row in members]
        ordered = members[np.argsort(keys)]
        cuts = np.rint(edges * len(ordered)).astype(int)
        for name, start, stop in zip(parts, cuts[:-1], cuts[1:], strict=True):
            parts[name].append(ordered[start:stop])
    return {name: np.sort(np.concatenate(pieces)) for name, pieces in parts.items()}
