"""One of our own trained students as teacher, under jit, on all devices of this host."""

import json
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from aft_jax.config import TeacherConfig
from aft_jax.data import prepare_examples
from aft_jax.students import (
    load_student,
    make_student,
    normalised,
    parameter_count,
    read_description,
)
from aft_jax.teachers.teacher import Teacher, TeacherIdentity
from aft_jax.teachers.unused import choose, refuse_unused
from aft_jax.types import PyTree

POOLINGS = ("pooled",)


def flax_teacher(config: TeacherConfig) -> Teacher:
    """The student of a finished run, frozen.

    Args:
        config: `source` is the run directory, `pooling` one of `POOLINGS`: "pooled" are the
            features the student itself pools. A student whose features are the factors of a
            tensor product gives those factors, under their names ("image", "text").

    Returns:
        The teacher; its features are float32.

    Raises:
        ConfigError: a key is set that this family does not read.
        UsageError: the run has no student, or a damaged one.
    """
    identity = _identity(config)
    saved = load_student(pathlib.Path(config.source))
    inputs = saved.inputs
    student = normalised(make_student(saved.name, len(saved.classes), saved.options), inputs)
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
    variables = jax.device_put(saved.variables, NamedSharding(mesh, P()))

    @jax.jit
    def pooled(variables, inputs):
        return student.apply(variables, inputs, False, {})[0].features

    def features(prepared: PyTree) -> dict[str, np.ndarray]:
        rows = len(jax.tree.leaves(prepared)[0])
        whole = jax.tree.map(lambda array: _filled(array, len(devices)), prepared)
        shared = jax.device_put(whole, NamedSharding(mesh, P("data")))
        found = pooled(variables, shared)
        named = found if isinstance(found, Mapping) else {"pooled": found}
        return {name: np.asarray(array)[:rows] for name, array in named.items()}

    return Teacher(
        identity=identity,
        prepare=lambda examples: prepare_examples(inputs, examples),
        features=features,
        parameters=parameter_count(saved.variables),
    )


def flax_identity(config: TeacherConfig) -> TeacherIdentity | None:
    """What that teacher's features depend on; reads no weights.

    Args:
        config: as for `flax_teacher`.

    Returns:
        The identity, or None where there is no such run directory.

    Raises:
        ConfigError: a key is set that this family does not read.
        UsageError: the run has no student, or a damaged one.
    """
    _check(config)
    return _identity(config) if pathlib.Path(config.source).exists() else None


def _check(config: TeacherConfig) -> str:
    refuse_unused(config, ("pooling",))
    return choose(config, POOLINGS)


def _identity(config: TeacherConfig) -> TeacherIdentity:
    pooling = _check(config)
    description = read_description(pathlib.Path(config.source))
    # Strides leave no trace in the weights, but other strides give other features.
    options = json.dumps(description["options"], sort_keys=True)
    return TeacherIdentity(
        id=f"flax/{description['name']} {options}",
        revision="",
        weights_sha256=description["sha256"],
        preprocessing=json.dumps(description["inputs"], sort_keys=True),
        pooling=pooling,
    )


def _filled(array: np.ndarray, count: int) -> np.ndarray:
    """The rows, the first repeated until the devices divide them."""
    return np.concatenate([array, np.repeat(array[:1], -len(array) % count, axis=0)])
