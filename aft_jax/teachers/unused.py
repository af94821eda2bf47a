"""Config keys that a teacher family does not read are left alone by whoever writes the config."""

from typing import Any

from aft_jax.config import TeacherConfig
from aft_jax.errors import ConfigError

_UNSET: dict[str, Any] = {
    "revision": "",
    "pooling": "",
    "layers": (),
    "tower": "",
    "dtype": "float32",
    "max_length": 0,
    "trust_remote_code": False,
    "options": {},
}


def refuse_unused(config: TeacherConfig, used: tuple[str, ...]) -> None:
    """Refuses a key that would silently do nothing.

    Args:
        config: the teacher's config.
        used: the keys beside kind and source that its family reads.

    Raises:
        ConfigError: another key was set.
    """
    for key, unset in _UNSET.items():
        value = getattr(config, key)
        if key not in used and value != unset:
            raise ConfigError(
                f"config.teachers.*.{key} does nothing for a {config.kind} teacher, so it stays "
                f"{unset!r}; got {value!r}."
            )


def choose(config: TeacherConfig, poolings: tuple[str, ...]) -> str:
    """The pooling that a config means.

    Args:
        config: the teacher's config.
        poolings: those that its family has, the default first.

    Returns:
        One of them.

    Raises:
        ConfigError: there is no such pooling.
    """
    chosen = config.pooling or poolings[0]
    if chosen not in poolings:
        raise ConfigError(
            f"config.teachers.*.pooling of a {config.kind} teacher is one of "
            f"{', '.join(poolings)}; got {chosen!r}."
        )
    return chosen
