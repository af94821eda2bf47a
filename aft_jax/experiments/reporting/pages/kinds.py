"""What a directory is, told by its files."""

import pathlib

from aft_jax.errors import UsageError
from aft_jax.experiments.comparison import records
from aft_jax.experiments.sweeping import records as sweep_records
from aft_jax.training import workdir

COMPARISON, SWEEP, RUN = "comparison", "sweep", "run"

_FILES = {
    records.FILE_NAME: COMPARISON,
    sweep_records.FILE_NAME: SWEEP,
    workdir.RESULT: RUN,
}


def kind_of(directory: pathlib.Path) -> str:
    """What a directory is.

    Args:
        directory: any.

    Returns:
        `COMPARISON`, `SWEEP` or `RUN`.

    Raises:
        UsageError: it holds nothing that is finished.
    """
    for name, kind in _FILES.items():
        if (directory / name).is_file():
            return kind
    state = "is not there"
    if directory.is_dir():
        begun = (directory / workdir.CONFIG).is_file()
        state = "was begun and is not finished" if begun else "holds none of these"
    verbs = ", ".join(f"{name} (`aft-jax {verb}`)" for name, verb in _VERBS.items())
    raise UsageError(
        f"a report is about a directory that one of these verbs finished: {verbs}; {directory} "
        f"{state}. Check --workdir, or run the verb to its end: the same command resumes it."
    )


_VERBS = dict(zip(_FILES, ("compare", "sweep", "train"), strict=True))
