"""Teachers: the seam and the families behind it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from aft_jax.config import TeacherConfig
from aft_jax.errors import ConfigError
from aft_jax.teachers.custom_teacher import custom_identity, custom_teacher
from aft_jax.teachers.custom_teacher import function_teacher as function_teacher
from aft_jax.teachers.flax_teacher import flax_identity, flax_teacher
from aft_jax.teachers.huggingface_teacher import huggingface_identity, huggingface_teacher
from aft_jax.teachers.imported_teacher import imported_identity, imported_teacher
from aft_jax.teachers.random_teacher import random_identity, random_teacher
from aft_jax.teachers.teacher import Teacher as Teacher
from aft_jax.teachers.teacher import TeacherIdentity as TeacherIdentity
from aft_jax.teachers.timm_teacher import timm_identity, timm_teacher


class Family(NamedTuple):
    """A teacher family: how to load one of its models, and how to name it without loading it.

    Attributes:
        load: config -> the teacher.
        identify: config -> what its features depend on, or None where its source is not on this
            machine.
    """

    load: Callable[[TeacherConfig], Teacher]
    identify: Callable[[TeacherConfig], TeacherIdentity | None]


TEACHERS: Mapping[str, Family] = {
    "flax": Family(flax_teacher, flax_identity),
    "huggingface": Family(huggingface_teacher, huggingface_identity),
    "timm": Family(timm_teacher, timm_identity),
    "custom": Family(custom_teacher, custom_identity),
    "random": Family(random_teacher, random_identity),
    "imported": Family(imported_teacher, imported_identity),
}
"""Family name -> the family."""


def make_teacher(config: TeacherConfig) -> Teacher:
    """Loads a teacher.

    Args:
        config: its family and source.

    Returns:
        The teacher.

    Raises:
        ConfigError: the family is unknown, or it has no such pooling.
        UsageError: the source is absent, damaged or has no model.
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
    return _family(config).identify(config)


def _family(config: TeacherConfig) -> Family:
    if config.kind not in TEACHERS:
        raise ConfigError(
            f"config.teachers.*.kind is one of {', '.join(TEACHERS)}; got {config.kind!r}."
        )
    return TEACHERS[config.kind]
