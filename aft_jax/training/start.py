"""The student's variables before the first step: random by the seed, but for known weights."""

from typing import Any

import jax
from jax.sharding import Mesh

from aft_jax.students.layers.head import HEAD
from aft_jax.training.sharding import placed, replicated, root_key
from aft_jax.training.state import initial_variables
from aft_jax.types import PyTree, Student


def starts_at_random(weights: PyTree) -> bool:
    """Whether some of a student's body is drawn; its classifier's head always is.

    Args:
        weights: as `Start.fill` makes them: an array where a weight is known, else its shape.

    Returns:
        The answer.
    """
    body = jax.tree.leaves({**weights, "params": {**weights["params"], HEAD: {}}})
    return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in body)


def with_known(variables: PyTree, weights: PyTree) -> PyTree:
    """Random variables, but for those whose weights are known.

    Args:
        variables: of the student, drawn.
        weights: as `Start.fill` makes them.

    Returns:
        The variables, each where the drawn one was.
    """

    def known(random: jax.Array, found: Any) -> Any:
        if isinstance(found, jax.ShapeDtypeStruct):
            return random
        return placed(found, random.sharding)

    return jax.tree.map(known, variables, weights)


def start_variables(
    student: Student,
    weights: PyTree,
    example: PyTree,
    seed: int,
    mesh: Mesh | None = None,
) -> PyTree:
    """The student's variables before the first step of a run of a seed.

    Args:
        student: the student.
        weights: as `Start.fill` makes them.
        example: [1, ...] inputs, for shapes.
        seed: of the run.
        mesh: the devices, each of which has all; None for the default one.

    Returns:
        The variables.
    """
    key = jax.random.key(seed) if mesh is None else root_key(seed, mesh)
    everywhere = None if mesh is None else replicated(mesh)
    drawn = jax.jit(lambda key: initial_variables(key, student, example), out_shardings=everywhere)
    return with_known(drawn(key), weights)
