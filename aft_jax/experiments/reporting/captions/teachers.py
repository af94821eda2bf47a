"""What a reader should see in the figures about the teachers: sentences from the numbers."""

from collections.abc import Mapping

import numpy as np

from aft_jax.experiments.formatting import listed, percent, quantity
from aft_jax.experiments.reporting.diagnostics import Diagnostics
from aft_jax.types import Float


def gates(gates: Mapping[str, Float[np.ndarray, " _"]]) -> str:
    """How far the gates of each teacher spread from their start."""
    parts = [
        f"{quantity(len(values), 'gate')} of {teacher} now span {values.min():.2f} to "
        f"{values.max():.2f} with {percent(float(np.mean(values > 0.5)), 0)} % above 1/2"
        for teacher, values in gates.items()
    ]
    return (
        f"All gates start at 1/2, and only their ratios matter, as rows are normalised: "
        f"{listed(parts)}."
    )


def teacher_parts(shares: Mapping[str, float], moves: Mapping[str, float]) -> str:
    """Which teacher makes most of the kernel, and without which it changes most."""
    needed = max(moves, key=lambda name: moves[name])
    spare = min(moves, key=lambda name: moves[name])
    text = (
        f"Left out one at a time, {needed} changes the teachers' kernel most (R = "
        f"{moves[needed]:.3f}) and {spare} least (R = {moves[spare]:.3f})."
    )
    if not shares:
        return text
    largest = max(shares, key=lambda name: shares[name])
    return (
        f"{largest} makes {percent(shares[largest], 1)} % of the teachers' kernel. {text} A "
        "teacher with a large share but a small effect is one that the others can stand in for."
    )


def kernels(diagnostics: Diagnostics) -> str:
    """Which student's kernel is closest to the teacher's, and how it was before training."""
    examples = quantity(len(diagnostics.labels), "tune example")
    opening = f"Similarity of {examples} sorted by class"
    if diagnostics.gates:
        opening += ", the teacher's by its features weighted with the learned gates"
    distances = dict(diagnostics.distances)
    before = distances.pop("start", None)
    if not distances:
        return f"{opening}."
    ranked = sorted(distances, key=lambda name: distances[name])
    named = listed([f"{name} at R = {distances[name]:.3f}" for name in ranked])
    end = "" if before is None else f" Before training the student was at R = {before:.3f}."
    if len(ranked) == 1:
        return f"{opening}: the student's distance to the teacher is {named}.{end}"
    return f"{opening}: closest to the teacher is {ranked[0]} ({named}).{end}"
