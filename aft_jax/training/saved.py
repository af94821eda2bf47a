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

from aft_jax.distributed import is_first, meet
from aft_jax.errors import StorageError, UsageError
from aft_jax.training.digest import host_digests, leaf_names, path_name
from aft_jax.training.sharding import placed
from aft_jax.types import PyTree

_LOG = logging.getLogger(__name__)

ITEM = "default"
DAMAGED = "damaged_checkpoints"
NONE_LEFT = "None is left: training starts again from step 0."
_NOT_DAMAGE = (
    *("PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "DEADLINE_EXCEEDED"),
    *("RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"),
)
"""What TensorStore says when the storage, not the file, is at fault."""

State = dict[str, np.ndarray]
"""What was read: name -> array"""

Structure = dict[str, tuple[tuple[int, ...], str]]
"""name -> (shape, dtype)"""


class DamagedError(Exception):
    """A checkpoint is not what was saved; the message names it and says what is wrong."""


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


def keep_sound(directory: pathlib.Path) -> State | None:
    """Leaves a directory whose newest checkpoint is sound, or that has none.

    Of several processes the first looks and moves; the others wait for it.

    Args:
        directory: of a run's checkpoints; need not exist.

    Returns:
        The state in the newest checkpoint; None where there is none, and in every process but the
        first.

    Raises:
        StorageError: a checkpoint cannot be read now, but may be sound. Nothing was moved.
    """
    state = _newest_sound(directory) if is_first() else None
    meet("checkpoints are looked through")
    return state


def _newest_sound(directory: pathlib.Path) -> State | None:
    for path in directory.glob("*.orbax-checkpoint-tmp*"):
        _LOG.warning("%s was cut short while it was written; it is removed", path)
        shutil.rmtree(path)
    while steps := steps_in(directory):
        path = directory / str(steps[-1])
        try:
            return read_state(path)
        except DamagedError as damage:
            place = _put_aside(path)
            left = steps[:-1]
            next_one = f"The one of step {left[-1]} is looked at instead." if left else NONE_LEFT
            _LOG.warning("%s It is kept in %s. %s", damage, place, next_one)
    return None


def read_state(path: pathlib.Path) -> State:
    """Reads a checkpoint and compares it with what was saved.

    Args:
        path: of one step.

    Returns:
        The state.

    Raises:
        DamagedError: it is not what was saved.
        StorageError: it cannot be read now, but may be sound.
    """
    damaged = f"the checkpoint of step {path.name} in {path.parent} is damaged:"
    try:
        arrays = _read(path)
        state = {
            name.removeprefix("state/"): array
            for name, array in arrays.items()
            if name.startswith("state/")
        }
        difference = _difference(state, arrays["digest/arrays"], arrays["digest/structure"])
    except MemoryError:
        raise
    except Exception as error:  # every layer of the formats has errors of its own
        if _not_damage(error):
            raise StorageError(
                f"a run goes on from a checkpoint that it can read; {path}: {first_words(error)}. "
                "It may be sound and stays where it is. Look at the storage and your permissions, "
                "then give the same command."
            ) from error
        raise DamagedError(f"{damaged} it cannot be read: {first_words(error)}.") from error
    if difference:
        raise DamagedError(f"{damaged} {difference}.")
    return state


def _not_damage(error: Exception) -> bool:
    if isinstance(error, OSError):
        return not isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    return any(word in str(error) for word in _NOT_DAMAGE)


def first_words(error: BaseException) -> str:
    """What an error says, without what TensorStore adds of its settings."""
    lines = str(error).partition(" [tensorstore_spec")[0].strip().splitlines()
    return (lines or [type(error).__name__])[0].rstrip(".")


def _difference(state: State, arrays: np.ndarray, structure: np.ndarray) -> str:
    """How a state differs from what its checkpoint says was saved; empty where it does not."""
    if not np.array_equal(structure_words(structure_of(state)), structure):
        return "the names, shapes or dtypes of its arrays are not those that were saved"
    wrong = (host_digests(state) != arrays).any(axis=1)
    if not wrong.any():
        return ""
    first = sorted(state)[int(np.argmax(wrong))]
    others = f" and {np.count_nonzero(wrong) - 1} others" if np.count_nonzero(wrong) > 1 else ""
    return f"the bits of {first}{others} are not those that were saved"


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array in a checkpoint, by name.

    Orbax's own reader has a thread and an event loop for each of them; after an error the others go
    on, and complain by the page. It also asks the other processes.
    """
    import tensorstore as ts

    about = json.loads((path / ITEM / "_METADATA").read_text())
    driver = "zarr3" if about["use_zarr3"] else "zarr"
    base = {"driver": "file", "path": f"{path / ITEM}/"}
    reads = {}
    for entry in about["tree_metadata"].values():
        if entry["value_metadata"]["value_type"] not in ("jax.Array", "np.ndarray"):
            continue  # a place without arrays
        keys = [str(part["key"]) for part in entry["key_metadata"]]
        database = {"driver": "ocdbt", "base": base, "path": ".".join(keys)}
        reads["/".join(keys)] = ts.open({"driver": driver, "kvstore": database}, open=True)
    opened = {name: read.result().read() for name, read in reads.items()}
    return {name: np.asarray(read.result()) for name, read in opened.items()}


def require_fit(path: pathlib.Path, state: State, like: PyTree) -> None:
    """Refuses a sound checkpoint of another state.

    Args:
        path: of one step.
        state: what is in it.
        like: the state of the run that is to go on from it.

    Raises:
        UsageError: their arrays differ in names, shapes or dtypes.
    """
    saved, wanted = structure_of(state), structure_of(like)
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


def placed_like(state: State, like: PyTree) -> PyTree:
    """A state that was read, in the structure of another one and on its devices.

    Args:
        state: the same in every process.
        like: of the same names, shapes and dtypes.

    Returns:
        The arrays of `state` in the tree of `like`; NumPy arrays where `like` has them.
    """

    def place(path: Any, leaf: Any) -> Any:
        array = state[path_name(path)]
        if not isinstance(leaf, jax.Array):
            return array
        return placed(array, leaf.sharding)

    return jax.tree_util.tree_map_with_path(place, like)


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
