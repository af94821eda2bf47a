"""A program for tests: the command line, with one thing going wrong at one step.

    python fault_child.py FAULT STEP aft-jax-arguments...

FAULT is "term" (SIGTERM to itself), "term-twice" (again while it saves), "kill" (SIGKILL), "stop"
(it says so and waits to be killed) or "none".
"""

import os
import signal
import sys
import time

from aft_jax import cli
from aft_jax.training import together, trainer
from aft_jax.training.checkpoint import Checkpoints


def main() -> int:
    """Runs the command line with the fault in its way."""
    fault, step, *arguments = sys.argv[1:]
    for loop, name in ((trainer._Run, "call"), (together._Group, "step")):
        setattr(loop, name, with_fault(getattr(loop, name), fault, int(step)))
    if fault == "term-twice":
        Checkpoints.wait = lambda self: os.kill(os.getpid(), signal.SIGTERM)
    return cli.main(arguments)


def with_fault(original, fault, step):
    """A method of a loop that meets the fault in its `step`-th call of this process."""
    calls = 0

    def method(self, *given):
        nonlocal calls
        calls += 1
        if calls == step:
            go_wrong(fault)
        return original(self, *given)

    return method


def go_wrong(fault: str) -> None:
    """Does it, in the main thread, between two calls."""
    if fault in ("term", "term-twice"):
        signal.raise_signal(signal.SIGTERM)
    elif fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "stop":
        print("stopped here", flush=True)
        time.sleep(600)


if __name__ == "__main__":
    sys.exit(main())
