"""Trials of one shape in one program: states stacked along a leading trial axis, under `vmap`.

Each seed's batch is loaded once, and every trial picks its own inside the program.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from aft_jax.training.sharding import AXIS, replicated, row_sharded
from aft_jax.training.state import TrainState
from aft_jax.training.step import TrainStep, evaluation_metrics
from aft_jax.types import Batch, Metrics, PyTree, Student


class Stack(NamedTuple):
    """What changes from step to step; every leaf has a leading trial axis, [m, ...].

    Attributes:
        states: the trials' training states.
        betas: [m] float32, their strengths of the regularizer.
    """

    states: TrainState
    betas: jax.Array


class SeedBatches(NamedTuple):
    """The batches of one step, one for each seed among the trials.

    Attributes:
        train: of the training split.
        tune: of the tune split; empty where the tuner reads none.
    """

    train: tuple[Batch, ...]
    tune: tuple[Batch, ...] = ()


TunerStep = Callable[
    [TrainState, jax.Array, Batch, Batch | None, jax.Array],
    tuple[TrainState, jax.Array, Metrics],
]
"""(state, beta, batch, tune batch or None, root key) -> (state, beta, metrics) of one trial."""

StackedStep = Callable[[Stack, SeedBatches, jax.Array, jax.Array], tuple[Stack, Metrics]]
"""(stack, batches, [m] which seed's each trial reads, [m] root keys) -> (stack, metrics [m])."""

StackedEval = Callable[[PyTree, Batch], Metrics]
"""(student variables [m, ...], batch) -> metrics [m]."""


class Layout(NamedTuple):
    """Where the arrays of a group of trials live.

    Attributes:
        trials: of arrays with a leading trial axis.
        rows: of batches.
    """

    trials: NamedSharding
    rows: NamedSharding


def layout_of(trials: int, mesh: Mesh) -> Layout:
    """Whole trials over the devices where they come out even, else each batch's rows.

    A device that trains trials of its own asks no other for anything; split rows cost a collective
    at every layer that looks at the batch. Several processes always split rows, since each loads
    its share of them alone.

    Args:
        trials: m.
        mesh: the devices.

    Returns:
        The layout.
    """
    if mesh.size > 1 and trials % mesh.size == 0 and jax.process_count() == 1:
        return Layout(NamedSharding(mesh, P(AXIS)), replicated(mesh))
    return Layout(replicated(mesh), row_sharded(mesh))


def with_fixed_beta(step: TrainStep) -> TunerStep:
    """A training step as a tuner's that leaves beta alone."""

    def fixed(state, beta, batch, tune, root):
        state, metrics = step(state, batch, beta, root)
        return state, beta, metrics

    return fixed


def stacked(states: Sequence[TrainState], layout: Layout) -> TrainState:
    """Puts the states of several trials, m in all, into one."""

    def joined(*states: TrainState) -> TrainState:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    # One program: leaf by leaf, the compiler would be called for each shape.
    return jax.jit(joined, out_shardings=layout.trials)(*states)


def one_of(tree: PyTree, trial: int | jax.Array) -> PyTree:
    """The part of a stacked tree that is one trial's."""
    return jax.tree.map(lambda leaf: leaf[trial], tree)


def compile_stacked_step(step: TunerStep, layout: Layout) -> StackedStep:
    """The step of all trials at once under jit; the stack is donated.

    Args:
        step: of one trial, pure.
        layout: of their arrays.

    Returns:
        The step.
    """
    rows = NamedSharding(layout.rows.mesh, P(None, *layout.rows.spec))

    def joined(batches: tuple[Batch, ...]) -> Batch:
        tree = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
        return jax.lax.with_sharding_constraint(tree, rows)

    def run(stack, batches, seeds, roots):
        train = joined(batches.train)
        tune = joined(batches.tune) if batches.tune else None

        def one(state, beta, seed, root):
            picked = None if tune is None else one_of(tune, seed)
            return step(state, beta, one_of(train, seed), picked, root)

        states, betas, metrics = jax.vmap(one)(stack.states, stack.betas, seeds, roots)
        return Stack(states, betas), metrics

    return jax.jit(run, out_shardings=layout.trials, donate_argnums=0)


def compile_stacked_eval(student: Student, layout: Layout) -> StackedEval:
    """All students in inference mode on one batch, under jit.

    Args:
        student: the architecture.
        layout: of the trials' arrays.

    Returns:
        The evaluation: states of "loss" and "accuracy", each [m].
    """

    def run(variables, batch):
        def one(variables):
            output, _ = student.apply(variables, batch.inputs, False, {})
            return evaluation_metrics(output.logits, batch)

        return jax.vmap(one)(variables)

    return jax.jit(run, out_shardings=layout.trials)


def compile_copy(layout: Layout) -> Callable[[TrainState, jax.Array], TrainState]:
    """(states, [m] sources) -> states, trial i that of `sources[i]`, under jit."""

    def run(states, sources):
        return jax.tree.map(lambda leaf: leaf[sources], states)

    return jax.jit(run, out_shardings=layout.trials)
