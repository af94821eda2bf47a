"""Groups of trials on disk: which train together, so that a killed group goes on as it was.

groups/<hash>/group.json      the trials' directories, in order
groups/<hash>/checkpoints/    of their common state; removed when the trials have ended
"""

import contextlib
import hashlib
import json
import pathlib
import shutil
from collections.abc import Container, Sequence

from aft_jax.experiments.sweeping.plan import PlannedTrial
from aft_jax.files import write_whole

GROUPS = "groups"
FILE = "group.json"


def group_directory(workdir: pathlib.Path, trials: Sequence[PlannedTrial]) -> pathlib.Path:
    """Where a group of these trials keeps its checkpoints."""
    joined = "\n".join(trial.directory for trial in trials)
    return workdir / GROUPS / hashlib.sha256(joined.encode()).hexdigest()[:16]


def start_group(workdir: pathlib.Path, trials: Sequence[PlannedTrial]) -> pathlib.Path:
    """Writes down which trials are in a group; returns its directory."""
    directory = group_directory(workdir, trials)
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / FILE, json.dumps([trial.directory for trial in trials]) + "\n")
    return directory


def remove_group(workdir: pathlib.Path, trials: Sequence[PlannedTrial]) -> None:
    """Removes a group's directory, if it has one; the trials' own stay."""
    shutil.rmtree(group_directory(workdir, trials), ignore_errors=True)
    with contextlib.suppress(OSError):  # other groups are under way
        (workdir / GROUPS).rmdir()


def open_groups(
    workdir: pathlib.Path, trials: Sequence[PlannedTrial], finished: Container[str]
) -> list[list[PlannedTrial]]:
    """The groups that were killed, with the trials they were started with.

    Groups all of whose trials are finished were killed while they were tidied up: they go.

    Args:
        workdir: directory of the sweep.
        trials: of one stage and set of teachers.
        finished: directories of those that are.

    Returns:
        The groups that have a trial to train.
    """
    known = {trial.directory: trial for trial in trials}
    groups = []
    for path in sorted(workdir.glob(f"{GROUPS}/*/{FILE}")):
        names = json.loads(path.read_text())
        if not set(names) <= set(known):
            continue  # of another stage or set
        if all(name in finished for name in names):
            remove_group(workdir, [known[name] for name in names])
        elif _checkpointed(path.parent):
            groups.append([known[name] for name in names])
    return groups


def has_progress(workdir: pathlib.Path, trial: PlannedTrial) -> bool:
    """Whether a trial was trained alone and killed after a checkpoint."""
    return _checkpointed(workdir / trial.directory)


def _checkpointed(directory: pathlib.Path) -> bool:
    return any(path.name.isdigit() for path in directory.glob("checkpoints/*"))
