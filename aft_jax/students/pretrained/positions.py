"""Position tables of another image size."""

import math

import numpy as np


def resized_positions(positions: np.ndarray, count: int, antialias: bool) -> np.ndarray:
    """Positions of a square grid of patches, interpolated to another grid.

        P' = M P M^T over rows and columns, M the one-dimensional cubic interpolation

    Args:
        positions: [n, w], of a class token, where there is one, and of n square patches.
        count: how many there are to be, with the class token.
        antialias: with Keys' a = -1/2 and a filter as wide as the steps between source points, as
            timm and Pillow do it, or a = -3/4 and no filter, as transformers does it.

    Returns:
        [count, w].

    Raises:
        ValueError: one of the two is no square grid with the same tokens in front.
    """
    extra = next((e for e in (0, 1) if _is_square(len(positions) - e)), None)
    if extra is None or not _is_square(count - extra):
        raise ValueError(
            f"positions are those of a square of patches; got {len(positions)} and {count}"
        )
    old, new = math.isqrt(len(positions) - extra), math.isqrt(count - extra)
    grid = positions[extra:].astype(np.float64).reshape(old, old, -1)
    matrix = _interpolation(old, new, antialias)
    resized = np.einsum("ip,jq,pqw->ijw", matrix, matrix, grid, optimize=True)
    resized = resized.reshape(new * new, -1).astype(positions.dtype)
    return np.concatenate([positions[:extra], resized])


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


def _interpolation(old: int, new: int, antialias: bool) -> np.ndarray:
    """[new, old] weights of the old points in each new one."""
    step = old / new
    centres = (np.arange(new) + 0.5) * step - 0.5
    if antialias:
        width = max(step, 1.0)
        weights = _cubic((np.arange(old)[None] - centres[:, None]) / width, -0.5)
        return weights / weights.sum(axis=1, keepdims=True)
    weights = np.zeros((new, old))
    for offset in range(-1, 3):
        points = np.floor(centres).astype(int) + offset
        inside = np.clip(points, 0, old - 1)  # the border repeats
        np.add.at(weights, (np.arange(new), inside), _cubic(points - centres, -0.75))
    return weights


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' interpolation kernel."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0))
