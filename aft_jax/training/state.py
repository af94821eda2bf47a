"""The training state: exactly what a checkpoint holds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from aft_jax.types import FeatureSpec, PyTree, Regularizer, Student


class TrainState(NamedTuple):
    """Everything that changes from step to step.

    Randomness is `fold_in(root, step)` and the data order a function of (seed, epoch, step), so
    neither is here.

    Attributes:
        step: int32, optimizer steps done.
        variables: the student's, with the collection "params" and any mutable ones.
        regularizer: the regularizer's parameters.
        opt_state: the optimizer's.
        loss_scale: see `aft_jax.training.loss_scale`; `()` where nothing is scaled.
    """

    step: jax.Array
    variables: PyTree
    regularizer: PyTree
    opt_state: PyTree
    loss_scale: PyTree = ()


STREAMS = ("init", "dropout")


def stream_key(root: jax.Array, stream: str) -> jax.Array:
    """The key of a named random stream, so that no two uses of the root key share bits."""
    return jax.random.fold_in(root, STREAMS.index(stream))


def trainable(state: TrainState) -> PyTree:
    """The tree the optimizer updates: {"student": ..., "regularizer": ...}."""
    return {"student": state.variables["params"], "regularizer": state.regularizer}


def initial_variables(key: jax.Array, student: Student, inputs: PyTree) -> PyTree:
    """The student's variables in the state at step 0; arguments as for `new_state`."""
    return student.init(jax.random.fold_in(stream_key(key, "init"), 0), inputs)


def new_state(
    key: jax.Array,
    student: Student,
    regularizer: Regularizer,
    optimizer: optax.GradientTransformation,
    spec: FeatureSpec,
    inputs: PyTree,
    loss_scale: PyTree = (),
) -> TrainState:
    """A state at step 0 with random weights.

    Args:
        key: root key of the run.
        student: the student.
        regularizer: the regularizer.
        optimizer: the optimizer.
        spec: feature widths.
        inputs: [1, ...] an example batch, for shapes.
        loss_scale: before the first step.

    Returns:
        The state.
    """
    stream = stream_key(key, "init")
    variables = initial_variables(key, student, inputs)
    params = regularizer.init(jax.random.fold_in(stream, 1), spec)
    state = TrainState(jnp.zeros((), jnp.int32), variables, params, None, loss_scale)
    return state._replace(opt_state=optimizer.init(trainable(state)))
