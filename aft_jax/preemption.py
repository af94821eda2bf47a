"""SIGTERM, by which a scheduler wants the machine back: stop at a place to go on from.

    where                          one process                     several processes
    a loop that asks, `Preemption` the state is saved at this step at a step that all agree on
    anywhere else, `stops_at_once` ends there; nothing is lost     asked for at the next loop

The command line then exits with code 75; see docs/preemption.md. A second signal, or Ctrl-C, ends
the process at once.
"""

import contextlib
import itertools
import pathlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax

from aft_jax.errors import Preempted

_ASKED = itertools.count(1)
"""Questions of this process so far. JAX lets all processes stop at the same number."""


class Preemption:
    """Notes SIGTERM while a loop runs; a context manager.

    Outside the main thread, which alone may handle signals, and where JAX's preemption service was
    switched off among several processes, nothing is noted and SIGTERM does what it did before.
    """

    def __init__(self):
        self._noted = False
        self._before: Any = None
        self._interrupt = signal.getsignal(signal.SIGINT)
        self._agreed = jax.distributed.is_initialized()

    def __enter__(self) -> "Preemption":
        """Handles SIGTERM from here on; of several processes each lets JAX handle it."""
        if _is_main() and not self._agreed:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Gives the signals back.

        Raises:
            Preempted: one came after the last question, and nothing else has ended the block.
        """
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        if _is_main() and self._interrupt is not None:
            signal.signal(signal.SIGINT, self._interrupt)
        if self._noted and error is None:
            raise stopped()

    def requested(self) -> bool:
        """Whether to save and stop now: ask after every call, in every process as often.

        It does not wait for the device, nor for other processes unless one was preempted.
        """
        if not self._agreed:
            return self._noted
        from jax.experimental import multihost_utils

        try:
            reached = multihost_utils.reached_preemption_sync_point(next(_ASKED))
        except RuntimeError:  # the service was switched off
            return False
        if reached and _is_main():
            _end_at_the_next()
        return reached

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
        _end_at_the_next()


@contextlib.contextmanager
def stops_at_once() -> Iterator[None]:
    """Makes SIGTERM raise `Preempted` wherever no `Preemption` notes it.

    Raises:
        Preempted: the signal came.
    """
    if not _is_main() or jax.distributed.is_initialized():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        _end_at_the_next()
        raise stopped()

    interrupt = signal.getsignal(signal.SIGINT)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)


def stopped() -> Preempted:
    """The end of work that keeps what it has finished."""
    return Preempted("preempted; what was finished is kept; the same command resumes")


def saved_at(step: int, directory: pathlib.Path) -> Preempted:
    """The end of a loop that has saved its state.

    Args:
        step: steps done.
        directory: where it was saved.
    """
    return Preempted(f"preempted at step {step}; saved in {directory}; the same command resumes")


def _end_at_the_next() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()
