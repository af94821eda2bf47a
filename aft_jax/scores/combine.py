"""Several teachers as one set of features."""

from collections.abc import Sequence

import numpy as np

from aft_jax.scores.labelled import wide_blocks
from aft_jax.scores.moments import own_basis

MAX_WIDTH = 4096
"""Features of a set; a wider one is reduced first, since the scores' cost grows with its square."""


def combined(teachers: Sequence[np.ndarray], max_width: int = MAX_WIDTH) -> np.ndarray:
    """The features of several teachers side by side, each with the same say.

    Each teacher is centred and divided by one number, the root of its variance summed over its
    features, so that none drowns the others by its scale. If the whole is wider than `max_width`,
    each gives its first principal components instead, an equal share of that width.

    Args:
        teachers: at least one, [n, t_m] each.
        max_width: of the result, at least one a teacher.

    Returns:
        [n, sum of t_m] or [n, at most max_width] float32. Constant features become zero.

    Raises:
        ValueError: there are no teachers, they have different rows, or fewer columns are allowed
            than there are teachers.
    """
    rows = [len(features) for features in teachers]
    if len(set(rows)) != 1:
        raise ValueError(
            f"a set is of at least one teacher, all with the same rows; got rows {rows}."
        )
    if max_width < len(teachers):
        raise ValueError(
            f"each teacher of a set keeps a column: max_width is at least {len(teachers)}; "
            f"got {max_width}."
        )
    wide = sum(features.shape[1] for features in teachers) > max_width
    share = max_width // len(teachers)
    return np.concatenate([_unit(features, share if wide else None) for features in teachers], 1)


def _unit(features: np.ndarray, components: int | None) -> np.ndarray:
    mean = np.asarray(np.mean(features, axis=0, dtype=np.float64))
    if components is not None and components < features.shape[1]:
        axes = _leading_axes(features, mean, components)
        blocks = [(block - mean) @ axes for block in wide_blocks(features)]
    else:
        blocks = [block - mean for block in wide_blocks(features)]
    variance = sum(float(np.sum(np.square(block))) for block in blocks) / len(features)
    # A constant column's mean may miss it by a rounding error.
    noise = (np.finfo(np.float64).eps * len(features)) ** 2 * float(np.sum(np.square(mean)))
    scale = 1 / np.sqrt(variance) if variance > noise else 0.0
    return np.concatenate([(block * scale).astype(np.float32) for block in blocks])


def _leading_axes(features: np.ndarray, mean: np.ndarray, components: int) -> np.ndarray:
    if len(features) < features.shape[1]:
        _, axes = own_basis(features.astype(np.float64) - mean)
        return axes[:, -components:]
    gram = np.zeros((features.shape[1],) * 2)
    for block in wide_blocks(features):
        gram += (block - mean).T @ (block - mean)
    return np.linalg.eigh(gram)[1][:, -components:]
