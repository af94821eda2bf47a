"""The compiled train step of a slice: the trainer's own step, for devices that are not here."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import AxisType, NamedSharding

from aft_jax.aot.chips import Slice
from aft_jax.aot.parts import Parts
from aft_jax.config import Config
from aft_jax.errors import ConfigError, UsageError
from aft_jax.training.experiment import make_step
from aft_jax.training.sharding import AXIS, replicated, row_sharded, state_shardings
from aft_jax.training.step import compile_train_step
from aft_jax.types import PyTree


class Refusal(NamedTuple):
    """The compiler found no way to fit a program into a device's memory.

    Attributes:
        needed: bytes that the program takes.
        available: bytes that programs may take.
    """

    needed: float
    available: float


def slice_devices(wanted: Slice) -> list[Any]:
    """The devices of a slice, for the compiler alone.

    Args:
        wanted: the slice.

    Returns:
        What stands for its devices.

    Raises:
        UsageError: the compiler knows no such slice.
    """
    options = {"chip_config_name": wanted.chip.wiring} if wanted.chip.wiring else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=wanted.name, **options)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        if "Topology" not in reason:
            raise
        raise UsageError(
            f"a topology is one that the TPU compiler knows; {wanted.name}: {reason}. Shapes of "
            "whole hosts are: 2x2, 2x4, 4x4 of chips with two axes, 2x2x1, 2x2x2 of those with "
            "three."
        ) from error
    if len(found.devices) != wanted.devices:
        raise UsageError(
            f"{wanted.name} has {wanted.devices} devices; this version of libtpu makes "
            f"{len(found.devices)} of it. Install the one that aft_jax[tpu-aot] names."
        )
    return list(found.devices)


def compiled_step(
    config: Config, parts: Parts, devices: list[Any]
) -> jax.stages.Compiled | Refusal:
    """The trainer's step, compiled for a slice.

    Args:
        config: the run's config; the slice decides how many devices there are.
        parts: of the step.
        devices: of the slice.

    Returns:
        The program, or why there is none.

    Raises:
        ConfigError: the devices do not divide the batch.
    """
    _check_rows(config, len(devices))
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    step = make_step(config, parts.student, parts.regularizer, parts.optimizer, mesh)
    state = jax.eval_shape(parts.new_state, jax.random.key(0))
    placed = state_shardings(mesh, state, config.state_sharding)
    rows, everywhere = row_sharded(mesh), replicated(mesh)
    beta = jax.ShapeDtypeStruct((), jnp.float32, sharding=everywhere)
    root = jax.eval_shape(lambda: jax.random.key(0))
    jitted: Any = compile_train_step(step, mesh, placed)
    lowered = jitted.lower(
        jax.tree.map(_placed, state, placed),
        jax.tree.map(lambda leaf: _placed(leaf, rows), parts.batch),
        beta,
        _placed(root, everywhere),
    )
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        refusal = read_refusal(str(error))
        if refusal is None:
            raise
        return refusal


def read_refusal(message: str) -> Refusal | None:
    """What the compiler says where memory does not do.

    Args:
        message: its error.

    Returns:
        The two sizes; None for another error.
    """
    size = r"([\d.]+)([KMGT]?)"
    forms = (
        rf"memory space hbm\. Used {size} of {size} hbm",
        rf"required for HLO temporaries \({size}\) exceeds available HBM \({size}\)",
    )
    found = next(filter(None, (re.search(form, message) for form in forms)), None)
    if found is None:
        return None
    number, unit, limit, limit_unit = found.groups()
    return Refusal(_bytes(number, unit), _bytes(limit, limit_unit))


def _bytes(number: str, unit: str) -> float:
    return float(number) * 1024 ** ("KMGT".index(unit) + 1 if unit else 0)


def _placed(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> PyTree:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _check_rows(config: Config, devices: int) -> None:
    parts = devices * config.accumulation_steps
    if config.batch_size % parts:
        micro = f" and {config.accumulation_steps} micro-batches"
        raise ConfigError(
            "config.batch_size is a multiple of the devices that share it; got "
            f"{config.batch_size} rows for the {devices} of this topology"
            f"{micro if config.accumulation_steps > 1 else ''}. Set --config.batch_size="
            f"{-(-config.batch_size // parts) * parts}, or another topology."
        )
    if config.official_quirks and devices > 1:
        raise ConfigError(
            "config.official_quirks trains on one device; got a topology of "
            f"{devices}. Set --topology=v5e:1x1."
        )
