"""Averages of students' weights, and running statistics that fit the average."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.training.sharding import replicated
from aft_jax.types import Batch, PyTree, Student

_FAR = 2.0**40
"""A running value beside which a batch's own is rounding, so that the update shows its decay."""


class Mixture(NamedTuple):
    """A sum of students' variables on the host, in float64.

    Attributes:
        total: the sum; leaves that are not floating point are those of the first student.
        students: how many students are in it.
    """

    total: PyTree
    students: int

    def add(self, variables: PyTree) -> "Mixture":
        """The mixture with one student more."""
        return Mixture(jax.tree.map(_sum, self.total, variables), self.students + 1)

    def mean(self, like: PyTree) -> PyTree:
        """The average, in the dtypes of `like`."""

        def divided(total: np.ndarray, leaf: np.ndarray) -> np.ndarray:
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return total
            return np.asarray(total / self.students).astype(leaf.dtype)

        return jax.tree.map(divided, self.total, like)


def mixture(variables: PyTree) -> Mixture:
    """A mixture of one student."""

    def wide(leaf: np.ndarray) -> np.ndarray:
        floats = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(np.float64) if floats else leaf

    return Mixture(jax.tree.map(wide, variables), 1)


def _sum(total: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    floats = jnp.issubdtype(leaf.dtype, jnp.floating)
    return np.asarray(total + leaf) if floats else total


class Statistics:
    """Recomputes a student's running statistics; compiled once for all its averages.

    The statistics of an average are not the average of statistics. In training mode a batch is
    normalised by its own, and the running value moves towards them, new = decay old + (1 - decay)
    own, so old = 0 and a far one show `decay` and `own` whatever the module calls them.
    """

    def __init__(self, student: Student, mesh: jax.sharding.Mesh):
        """Compiles nothing yet.

        Args:
            student: the student.
            mesh: the devices.
        """
        everywhere = replicated(mesh)

        def updated(variables: PyTree, batch: Batch, key: jax.Array) -> tuple[PyTree, ...]:
            def after(old: PyTree) -> PyTree:
                before = {"params": variables["params"], **old}
                _, changed = student.apply(before, batch.inputs, True, {"dropout": key})
                return running(changed)

            now = running(variables)
            return after(_filled(now, 0.0)), after(_filled(now, _FAR)), after(now)

        self._updated = jax.jit(updated, out_shardings=everywhere)
        self._everywhere = everywhere

    def fit(self, variables: PyTree, batches: Iterable[Batch]) -> PyTree:
        """The variables with running statistics that are means over batches.

        Args:
            variables: on the host.
            batches: of the training split, at least one.

        Returns:
            The variables; a value that is no running mean stays as it is.
        """
        old = running(variables)
        if not jax.tree.leaves(old):
            return variables
        placed = jax.device_put(variables, self._everywhere)
        key = jax.random.key(0)
        found = []
        for number, batch in enumerate(batches):
            states = self._updated(placed, batch, jax.random.fold_in(key, number))
            found.append(jax.device_get(states))
        means = [jax.tree.map(_own, old, *states) for states in found]
        fitted = jax.tree.map(lambda leaf, *own: _mean(leaf, own), old, *means)
        return {**variables, **fitted}


def running(variables: PyTree) -> dict[str, Any]:
    """The collections of a student beside its parameters."""
    return {name: tree for name, tree in variables.items() if name != "params"}


def _filled(tree: PyTree, value: float) -> PyTree:
    """The tree with one value in place of every floating-point one."""

    def fill(leaf: jax.Array) -> jax.Array:
        return jnp.full_like(leaf, value) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(fill, tree)


def _own(old: np.ndarray, zero: np.ndarray, far: np.ndarray, now: np.ndarray) -> np.ndarray:
    """A batch's own statistic; NaN where the update is not that of a running mean."""
    nothing = np.full(old.shape, np.nan)
    if not jnp.issubdtype(old.dtype, jnp.floating) or not old.size:
        return nothing
    zero, far, now, old = (x.astype(np.float64) for x in (zero, far, now, old))
    decay = np.median(far / _FAR)
    if not 0 <= decay < 1:
        return nothing
    size = 1e-3 * (1 + np.abs(zero) + np.abs(old))
    affine = np.all(np.abs(decay * old + zero - now) <= size)
    return zero / (1 - decay) if affine else nothing


def _mean(old: np.ndarray, own: tuple[np.ndarray, ...]) -> np.ndarray:
    mean = np.mean(own, axis=0)
    return np.asarray(mean).astype(old.dtype) if np.all(np.isfinite(mean)) else old
