"""One of our own trained students as teacher, under jit."""

import json
import pathlib

import jax
import numpy as np

from aft_jax.config import TeacherConfig
from aft_jax.students import load_student, make_student, parameter_count, read_description
from aft_jax.teachers.teacher import Teacher, TeacherIdentity

POOLINGS = ("pooled",)


def flax_teacher(config: TeacherConfig) -> Teacher:
    """The student of a finished run, frozen.

    Args:
        config: `source` is the run directory, `pooling` one of `POOLINGS`: "pooled" are the
            features the student itself pools.

    Returns:
        The teacher; its features are float32.

    Raises:
        UsageError: the run has no student, or a damaged one.
    """
    saved = load_student(pathlib.Path(config.source))
    student = make_student(saved.name, saved.num_classes, saved.options)
    variables = jax.device_put(saved.variables)

    @jax.jit
    def pooled(variables, inputs):
        return student.apply(variables, inputs, False, {})[0].features

    return Teacher(
        identity=flax_identity(config),
        features=lambda inputs: {"pooled": np.asarray(pooled(variables, inputs))},
        parameters=parameter_count(saved.variables),
    )


def flax_identity(config: TeacherConfig) -> TeacherIdentity:
    """What that teacher's features depend on; reads no weights.

    Args:
        config: as for `flax_teacher`.

    Returns:
        The identity.

    Raises:
        UsageError: the run has no student, or a damaged one.
    """
    description = read_description(pathlib.Path(config.source))
    # Strides leave no trace in the weights, but other strides give other features.
    options = json.dumps(description["options"], sort_keys=True)
    return TeacherIdentity(
        id=f"flax/{description['name']} {options}",
        revision="",
        weights_sha256=description["sha256"],
        preprocessing="as the data source gives them",
        pooling=config.pooling,
    )
