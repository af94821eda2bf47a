"""Checkpoints of exactly the state by Orbax: asynchronous, atomic, the newest few kept.

A checkpoint is compared with what was saved before a run goes on from it, see `saved`.
"""

import contextlib
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp

from aft_jax.distributed import all_of
from aft_jax.errors import StorageError
from aft_jax.files import full_disk, is_full, require_room
from aft_jax.training.digest import device_digests
from aft_jax.training.saved import (
    first_words,
    keep_sound,
    placed_like,
    read_state,
    require_fit,
    steps_in,
    structure_of,
    structure_words,
)
from aft_jax.types import PyTree

_LOG = logging.getLogger(__name__)

KEEP = 2
OVERHEAD = 1 << 20
"""Bytes of a checkpoint besides its arrays, at most."""


class Checkpoints:
    """The checkpoints of one run; a context manager that waits for saves under way.

    Where the disk is full inside the block, or a save failed, it ends with a `StorageError` that
    names the last good checkpoint.
    """

    def __init__(self, workdir: pathlib.Path):
        """Opens, or makes, `workdir`/checkpoints; damaged checkpoints are put aside.

        Args:
            workdir: the run directory.

        Raises:
            StorageError: a checkpoint cannot be read, or the directory not be made.
        """
        self.directory = (workdir / "checkpoints").absolute()
        self._bytes = 0
        self._read = keep_sound(self.directory)  # until it is asked for: one read, one comparison
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, create=True)
        with self._failures():
            self._manager = _Manager(self.directory, options=options)

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Waits for saves under way and closes the files.

        Raises:
            StorageError: a save failed, or what ended the block was a full disk.
        """
        if isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1:
            return  # a process is gone, most often: the others would wait for it
        try:
            with self._failures():
                self._manager.close()
        except StorageError as failure:
            if error is None or is_full(error):
                raise
            _LOG.warning("%s", failure)
        if error is not None and is_full(error):
            raise self._failure(error) from error

    @property
    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, state: PyTree, step: int) -> None:
        """Copies the state to the host and writes it in the background.

        Nothing is done where the newest checkpoint is of this step already.

        Args:
            state: the state after `step` steps.
            step: its step.

        Raises:
            StorageError: this save cannot begin, or the one before has failed.
        """
        self.wait()  # Orbax does before it saves again; then there is room that the old ones took
        if self.latest == step:
            return
        self._bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        self._read = None
        structure = structure_words(structure_of(state))
        digest = {"arrays": device_digests(state), "structure": structure}
        with self._failures():
            # A save that begins and fails leaves pages of other libraries' complaints.
            self._require_room()
            self._manager.save(step, args=ocp.args.StandardSave({"state": state, "digest": digest}))

    def _require_room(self) -> None:
        """All processes begin a save, or none: one alone would wait for the others."""
        failure = None
        try:
            require_room(self.directory, self._bytes + OVERHEAD, self._last_good())
        except StorageError as error:
            failure = error
        if not all_of(failure is None):
            raise failure or full_disk(self.directory, self._bytes + OVERHEAD, self._last_good())

    def wait(self) -> None:
        """Returns when what was saved is on the disk.

        Raises:
            StorageError: it could not be written.
        """
        with self._failures():
            self._manager.wait_until_finished()

    def check(self) -> None:
        """Looks, without waiting, whether the save under way has failed.

        Raises:
            StorageError: it has.
        """
        with self._failures():
            self._manager.check_for_errors()

    def restore(self, like: Any) -> Any:
        """The newest complete checkpoint.

        Args:
            like: a state of the same structure and shapes, on any devices.

        Returns:
            The saved state on the devices of `like`.

        Raises:
            StorageError: it cannot be read.
            UsageError: the checkpoint is of another structure.
        """
        path = self.directory / str(self.latest)
        with self._failures():
            state = read_state(path) if self._read is None else self._read
        self._read = None
        require_fit(path, state, like)
        return placed_like(state, like)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (StorageError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:  # of the file system, of TensorStore, of Orbax
            raise self._failure(error) from error

    def _last_good(self) -> str:
        steps = steps_in(self.directory)
        good = f"step {steps[-1]} in {self.directory}" if steps else "none yet"
        return f"Last good checkpoint: {good}."

    def _failure(self, error: BaseException) -> StorageError:
        kept = self._last_good()
        if isinstance(error, StorageError):
            return StorageError(f"{error} {kept}")
        if is_full(error):
            return full_disk(self.directory, self._bytes, kept)
        return StorageError(
            f"checkpoints are written to {self.directory}; a save failed: {first_words(error)}. "
            f"{kept} Repair that, then the same command resumes."
        )


class _Manager(ocp.CheckpointManager):
    """Orbax's, without its own view of preemption: the loop asks, in numbers of its own."""

    def reached_preemption(self, step: int) -> bool:
        """Says no."""
        return False
