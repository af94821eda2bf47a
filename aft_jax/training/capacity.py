"""How many trials train in one program: what one needs, against what is free."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aft_jax.features import free_memory
from aft_jax.students import parameter_count
from aft_jax.training.batches import train_batch
from aft_jax.training.experiment import Experiment
from aft_jax.training.sharding import row_sharded

SMALL = 10_000_000
"""Parameters up to which a student leaves a device idle for much of its step, as a rule of thumb;
beyond, trials side by side take as long as one after another, and all of their memory at once."""

SMALL_ON_CPU = 64 * 2**20
"""Bytes of a trial's step up to which the same holds of a CPU: a larger trial keeps its cores busy,
and most convolutions of many kernels at once take longer there than one after another."""

SHARE = 1 / 2
"""Of the free memory; the rest is for the examples and for what the estimate does not see."""


class Capacity(NamedTuple):
    """How many trials train together.

    Attributes:
        trials: at least one.
        reason: the numbers behind it, for the log.
    """

    trials: int
    reason: str


def trials_that_fit(experiment: Experiment, wanted: int) -> Capacity:
    """The number of trials that `config.sweep.together=0` stands for.

    Args:
        experiment: what the trials have in common.
        wanted: trials there are.

    Returns:
        Up to `wanted`; 1 for a student that is not small.
    """
    if experiment.config.state_sharding == "sharded":
        return Capacity(1, "one after another: the state of each is split over the devices")
    everywhere = jax.eval_shape(experiment.new_state, jax.random.key(0))
    parameters = parameter_count(everywhere.variables)
    if parameters > SMALL:
        return Capacity(
            1,
            f"one after another: {parameters:,} parameters are more than the {SMALL:,} of a "
            "student that leaves a device idle",
        )
    need = bytes_of_trial(experiment)
    device, host = free_memory(row_sharded(experiment.mesh))
    if not device and need > SMALL_ON_CPU:
        return Capacity(
            1,
            f"one after another: a step of up to {need / 2**20:,.1f} MiB keeps a CPU busy (at most "
            f"{SMALL_ON_CPU / 2**20:.0f} MiB would leave it idle)",
        )
    free = device or host
    fit = max(1, min(wanted, int(SHARE * free / max(need, 1))))
    place = "on each device" if device else "on the host"
    return Capacity(
        fit,
        f"{fit} of {wanted} trials in one program: one needs up to {need / 2**20:,.1f} MiB, "
        f"{free / 2**20:,.0f} MiB are free {place}",
    )


def bytes_of_trial(experiment: Experiment) -> int:
    """An upper bound on the memory of one trial, from shapes alone.

    The state twice (the new one is made while the old one is there), and the result of every
    operation of a step as if none was ever freed or fused away.

    Args:
        experiment: what the trials have in common.

    Returns:
        Bytes.
    """
    state = jax.eval_shape(experiment.new_state, jax.random.key(0))
    order = experiment.protocol.order(0)
    views, rows = experiment.config.views, row_sharded(experiment.mesh)
    batch = train_batch(experiment.train, experiment.features, order, 0, views, rows)
    step = jax.make_jaxpr(experiment.step)
    traced = step(state, batch, jnp.float32(0), jax.random.key(0))
    held = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return 2 * held + _results(traced.jaxpr)


def _results(jaxpr: Any) -> int:
    """Bytes of the results of all operations; the body of a loop counts once."""
    total = 0
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            total += math.prod(variable.aval.shape) * variable.aval.dtype.itemsize
        total += sum(map(_results, _inner(equation.params)))
    return total


def _inner(params: Mapping[str, Any]) -> Iterator[Any]:
    """The programs inside an operation: a call's, a loop's body."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            program = getattr(item, "jaxpr", item)
            if hasattr(program, "eqns"):
                yield program
