"""Where a teacher's checkpoint is, and whether code that comes with it may run."""

import re

from aft_jax.config import TeacherConfig
from aft_jax.errors import ConfigError
from aft_jax.hub import Source

SOURCE_KEY = "teachers.*.source"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def source_of(config: TeacherConfig) -> Source:
    """The checkpoint that a teacher's config names.

    Args:
        config: `source` is a directory or a hub id.

    Returns:
        What `find_checkpoint` and `fetch_checkpoint` look for.

    Raises:
        ConfigError: code from the repository is to run, at no fixed revision.
    """
    if config.trust_remote_code and not _COMMIT.fullmatch(config.revision):
        raise ConfigError(
            "config.teachers.*.trust_remote_code runs code from the model's repository, so "
            "config.teachers.*.revision names the commit you have read, as 40 hexadecimal digits; "
            f"got {config.revision!r}."
        )
    reader = f"a {config.kind} teacher"
    return Source(config.source, config.revision, SOURCE_KEY, config.trust_remote_code, reader)
