"""One of several processes that train together: a child process of the tests.

    python -m tests.training.several PORT PROCESSES PROCESS DEVICES VERB [FLAGS]

is `aft-jax VERB [FLAGS]` with so many virtual CPU devices.
"""

import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Sequence

from tests.xla import flags

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT = 240  # seconds


def start(processes: int, devices: int, *words: str, failing: int = -1) -> list[subprocess.Popen]:
    """Starts `aft-jax` in several processes that find each other over the loopback.

    The process `failing` cannot write its metrics.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = [sys.executable, "-m", "tests.training.several", port, str(processes)]
    return [
        subprocess.Popen(
            [*program, str(number), str(devices), *words],
            cwd=ROOT,
            env={**os.environ, "TESTS_FAIL": str(int(number == failing))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(processes)
    ]


def finished(children: Sequence[subprocess.Popen]) -> list[str]:
    """What each printed; fails where one failed."""
    outputs = [child.communicate(timeout=TIMEOUT)[0] for child in children]
    for child, output in zip(children, outputs, strict=True):
        assert child.returncode == 0, output
    return outputs


def fail() -> None:
    from aft_jax.errors import StorageError
    from aft_jax.training.metrics import MetricsWriter

    def write(*arguments: object) -> None:
        raise StorageError("no space for the metrics")

    setattr(MetricsWriter, "write", write)  # noqa: B010 - a type checker knows the method


def main() -> None:
    port, processes, process, devices, *words = sys.argv[1:]
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = flags(int(devices))
    from aft_jax.cli import main as run

    if os.environ.get("TESTS_FAIL") == "1":
        fail()
    if int(processes) > 1:
        words += [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}"]
        words += [f"--process={process}"]
    sys.exit(run(words))


if __name__ == "__main__":
    main()
