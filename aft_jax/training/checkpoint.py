"""Checkpoints of exactly the state by Orbax: asynchronous, atomic, the newest few kept."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from aft_jax.types import PyTree

KEEP = 2


class Checkpoints:
    """The checkpoints of one run; a context manager that waits for saves under way."""

    def __init__(self, workdir: pathlib.Path):
        """Opens, or makes, `workdir`/checkpoints.

        Args:
            workdir: the run directory.
        """
        self.directory = (workdir / "checkpoints").absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, create=True)
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Waits for saves under way and closes the files."""
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, state: PyTree, step: int) -> None:
        """Copies the state to the host and writes it in the background.

        Args:
            state: the state after `step` steps.
            step: its step.
        """
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, like: Any) -> Any:
        """The newest complete checkpoint.

        Args:
            like: a state of the same structure, shapes and shardings.

        Returns:
            The saved state on the devices of `like`.
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._manager.restore(self.latest, args=ocp.args.StandardRestore(target))
