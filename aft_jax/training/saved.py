"""What a checkpoint holds, read back on the host: is it what was saved, and does it fit a run?

checkpoints/12/default        the state, a digest of each of its arrays, and a hash of their names,
                              shapes and dtypes
checkpoints/12.orbax-...      a save under way, or one that was cut short
damaged_checkpoints/12        what was no longer what had been saved, kept to be looked at
"""

import hashlib
import json
import logging
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from aft_jax.distributed import is_first, meet
from aft_jax.errors import StorageError, UsageError
from aft_jax.training.digest import host_digests, leaf_names
from aft_jax.types import PyTree

_LOG = logging.getLogger(__name__)

ITEM = "default"
DAMAGED = "damaged_checkpoints"
_NOT_DAMAGE = (
    *("PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "DEADLINE_EXCEEDED"),
    *("RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"),
)
"""What TensorStore says when the storage, not the file, is at fault."""

Structure = dict[str, tuple[tuple[int, ...], str]]
"""name -> (shape, dtype)"""


def structure_of(state: PyTree) -> Structure:
    """The names, shapes and dtypes of a tree's arrays."""
    return {
        name: (tuple(leaf.shape), np.dtype(leaf.dtype).name)
        for name, leaf in leaf_names(state).items()
    }


def structure_words(structure: Structure) -> np.ndarray:
    """[8] uint32, the SHA-256 of a structure."""
    text = json.dumps(sorted(structure.items()))
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32)


def steps_in(directory: pathlib.Path) -> list[int]:
    """The steps of the committed checkpoints of a directory, in order."""
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isdigit())


def keep_sound(directory: pathlib.Path) -> None:
    """Leaves a directory whose newest checkpoint is sound, or that has none.

    Of several processes the first looks and moves; the others wait for it.

    Args:
        directory: of a run's checkpoints; need not exist.

    Raises:
        StorageError: a checkpoint cannot be read now, but may be sound. Nothing was moved.
    """
    if is_first():
        for path in directory.glob("*.orbax-checkpoint-tmp*"):
            _LOG.warning("%s was cut short while it was written; it is removed", path)
            shutil.rmtree(path)
        for step in reversed(steps_in(directory)):
            damage = damage_of(directory / str(step))
            if not damage:
                break
            place = _put_aside(directory / str(step))
            left = steps_in(directory)
            _LOG.warning(
                "the checkpoint of step %d in %s is damaged: %s. It is kept in %s. %s",
                *(step, directory, damage, place),
                f"The one of step {left[-1]} is looked at instead."
                if left
                else "None is left: training starts again from step 0.",
            )
    meet("checkpoints are looked through")


def damage_of(path: pathlib.Path) -> str:
    """Why a checkpoint is not what was saved; empty if it is.

    Args:
        path: of one step.

    Returns:
        The reason.

    Raises:
        StorageError: it cannot be read now, but may be sound.
    """
    try:
        for file in path.rglob("*"):
            if file.is_file():
                with file.open("rb") as content:
                    content.read(1)
    except PermissionError as error:
        raise _unreadable(path, error) from error
    except OSError as error:
        return f"it cannot be read: {error}"
    try:
        return _difference(_read(path))
    except MemoryError:
        raise
    except Exception as error:  # every layer of the formats has errors of its own
        words = str(error).strip().splitlines() or [type(error).__name__]
        if any(word in str(error) for word in _NOT_DAMAGE):
            raise _unreadable(path, error) from error
        return f"it cannot be read: {words[0].rstrip('.')}"


def _difference(saved: dict[str, Any]) -> str:
    found = structure_words(structure_of(saved["state"]))
    if not np.array_equal(found, saved["digest"]["structure"]):
        return "the names, shapes or dtypes of its arrays are not those that were saved"
    wrong = (host_digests(saved["state"]) != saved["digest"]["arrays"]).any(axis=1)
    if not wrong.any():
        return ""
    first = list(leaf_names(saved["state"]))[int(np.argmax(wrong))]
    others = f" and {np.count_nonzero(wrong) - 1} others" if np.count_nonzero(wrong) > 1 else ""
    return f"the bits of {first!r}{others} are not those that were saved"


def _read(path: pathlib.Path) -> dict[str, Any]:
    """Everything in a checkpoint, as NumPy arrays, read by this process alone."""
    handler, place = _handler(), epath.Path(path / ITEM)
    try:
        tree = handler.metadata(place).tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return handler.restore(place, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    finally:
        handler.close()


def _handler() -> ocp.PyTreeCheckpointHandler:
    alone = ocp.options.MultiprocessingOptions(
        primary_host=None, active_processes={jax.process_index()}, barrier_sync_key_prefix="alone"
    )
    return ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)


def require_fit(path: pathlib.Path, like: PyTree) -> None:
    """Refuses a sound checkpoint of another state.

    Args:
        path: of one step.
        like: the state of the run that is to go on from it.

    Raises:
        UsageError: their arrays differ in names, shapes or dtypes.
    """
    handler = _handler()
    saved = structure_of(handler.metadata(epath.Path(path / ITEM)).tree["state"])
    handler.close()
    wanted = structure_of(like)
    if saved == wanted:
        return
    words = [
        f"{name} is {_shown(saved.get(name))} there and {_shown(wanted.get(name))} now"
        for name in sorted(saved.keys() | wanted.keys())
        if saved.get(name) != wanted.get(name)
    ]
    more = f"; {len(words) - 3} others differ" if len(words) > 3 else ""
    raise UsageError(
        f"a checkpoint holds the state of the run that goes on from it; {path} has another one: "
        f"{'; '.join(words[:3])}{more}. It is whole and stays where it is. It was written by "
        "another run or another version of the code: go on with that one, or give another "
        "--workdir."
    )


def _shown(array: tuple[tuple[int, ...], str] | None) -> str:
    return "absent" if array is None else f"{array[1]} {list(array[0])}"


def _put_aside(path: pathlib.Path) -> pathlib.Path:
    shelf = path.parent.parent / DAMAGED
    shelf.mkdir(exist_ok=True)
    place, copies = shelf / path.name, 1
    while place.exists():
        copies += 1
        place = shelf / f"{path.name}-{copies}"
    return path.rename(place)


def _unreadable(path: pathlib.Path, error: Exception) -> StorageError:
    return StorageError(
        f"a run goes on from a checkpoint that it can read; {path}: {error}. It may be sound and "
        "stays where it is. Look at the storage and your permissions, then give the same command."
    )
