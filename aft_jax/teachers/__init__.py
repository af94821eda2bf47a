"""Teachers: the seam and the families behind it."""

import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aft_jax.config import TeacherConfig
from aft_jax.errors import ConfigError
from aft_jax.teachers.flax_teacher import POOLINGS, flax_identity, flax_teacher
from aft_jax.teachers.teacher import Teacher as Teacher
from aft_jax.teachers.teacher import TeacherIdentity as TeacherIdentity


class Family(NamedTuple):
    """A teacher family: how to load one of its models, and how to name it without loading it.

    Attributes:
        load: config -> the teacher.
        identify: config -> what its features depend on; the source is on this machine.
        poolings: the features that its teachers offer.
    """

    load: Callable[[TeacherConfig], Teacher]
    identify: Callable[[TeacherConfig], TeacherIdentity]
    poolings: tuple[str, ...]


TEACHERS: Mapping[str, Family] = {"flax": Family(flax_teacher, flax_identity, POOLINGS)}


def make_teacher(config: TeacherConfig) -> Teacher:
    """Loads a teacher.

    Args:
        config: its family and source.

    Returns:
        The teacher.

    Raises:
        ConfigError: the family is unknown, or it has no such pooling.
        UsageError: the source is damaged or has no model.
    """
    return _family(config).load(config)


def identify_teacher(config: TeacherConfig) -> TeacherIdentity | None:
    """What a teacher's features depend on, if its source is here; training needs no teacher.

    Args:
        config: its family and source.

    Returns:
        The identity, or None where the source is not on this machine.

    Raises:
        ConfigError: the family is unknown, or it has no such pooling.
        UsageError: the source is damaged or has no model.
    """
    family = _family(config)
    return family.identify(config) if pathlib.Path(config.source).exists() else None


def _family(config: TeacherConfig) -> Family:
    if config.kind not in TEACHERS:
        raise ConfigError(
            f"config.teachers.*.kind is one of {', '.join(TEACHERS)}; got {config.kind!r}."
        )
    family = TEACHERS[config.kind]
    if config.pooling not in family.poolings:
        raise ConfigError(
            f"config.teachers.*.pooling of a {config.kind} teacher is one of "
            f"{', '.join(family.poolings)}; got {config.pooling!r}."
        )
    return family
