"""The teacher behind features that someone else extracted: known by their file, never run."""

import pathlib
from typing import NoReturn

from aft_jax.config import TeacherConfig
from aft_jax.errors import ConfigError
from aft_jax.files import sha256_of
from aft_jax.teachers.teacher import TeacherIdentity
from aft_jax.teachers.unused import refuse_unused


def imported_teacher(config: TeacherConfig) -> NoReturn:
    """Refuses to compute features that came as a file.

    Args:
        config: `source` is the file of the authors' features.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(
        "imported features cannot be recomputed; run `aft-jax import-official` on "
        f"{config.source!r}, or name a teacher of another config.teachers.*.kind."
    )


def imported_identity(config: TeacherConfig) -> TeacherIdentity | None:
    """What names imported features: the content of their file.

    Args:
        config: as for `imported_teacher`.

    Returns:
        The identity, or None where the file is not on this machine.

    Raises:
        ConfigError: a key is set that this family does not read.
    """
    refuse_unused(config, ())
    path = pathlib.Path(config.source)
    if not path.is_file():
        return None
    return TeacherIdentity(
        id=f"imported/{path.name}",
        revision="",
        weights_sha256=sha256_of(path),
        preprocessing="imported from an official feature file",
        pooling="as imported",
    )
