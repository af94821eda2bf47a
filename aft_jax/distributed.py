"""Several processes as one run: who they are, which of them writes files, and where they meet.

`jax.distributed` is started by flags, or by an environment that says how many processes there are:
SLURM (inside `srun`), a multi-host TPU slice on GKE, or Open MPI. A TPU VM says it to JAX alone,
through its metadata server, so there `--distributed` asks JAX.
"""

import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from aft_jax.errors import ConfigError, NonFiniteError, UsageError

_LOG = logging.getLogger(__name__)

GRACE_SECONDS = 2
HEARTBEAT_SECONDS = 30
"""Without a sign of life from a process for so long, the others end with an error."""


class Processes(NamedTuple):
    """What the flags say of the processes of a run.

    Attributes:
        coordinator: "host:port" of process 0; empty to read the environment.
        total: processes in all; 0 to read the environment.
        number: of this one, from 0; -1 to read the environment.
        demanded: whether JAX must find a cluster, where the environment does not show one.
    """

    coordinator: str = ""
    total: int = 0
    number: int = -1
    demanded: bool = False


def join(processes: Processes) -> None:
    """Makes this process one of a run's, before JAX has computed anything.

    Without flags and outside a cluster nothing happens, and the run is this process. JAX ends a
    process that does not find the others within five minutes.

    Args:
        processes: what the flags say.

    Raises:
        UsageError: the flags are incomplete, or JAX refuses them.
    """
    given = (bool(processes.coordinator), processes.total > 0, processes.number >= 0)
    if any(given) and not all(given):
        raise UsageError(
            "--coordinator=HOST:PORT, --processes=N and --process=I go together, I from 0; got "
            f"{processes.coordinator!r}, {processes.total} and {processes.number}. Leave all three "
            "out where the environment tells."
        )
    if any(given) and not re.fullmatch(r".+:\d+", processes.coordinator):
        raise UsageError(
            "--coordinator is HOST:PORT of process 0, with a port that is free there and open to "
            f"the others; got {processes.coordinator!r}. Such as host0:9876."
        )
    if any(given) and not processes.number < processes.total:
        raise UsageError(
            f"--process is a number below --processes, from 0; got {processes.number} of "
            f"{processes.total}."
        )
    if not any(given) and not processes.demanded and not several_in(os.environ):
        return
    if joined():
        return
    try:
        jax.distributed.initialize(
            processes.coordinator or None,
            processes.total or None,
            processes.number if any(given) else None,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"the processes of a run find each other before they start; {error}. Give each "
            "--coordinator=HOST:PORT --processes=N --process=I, with a port that is free on the "
            "host of process 0 and open to the others."
        ) from error
    _LOG.info(
        "process %d of %d, %d of %d devices",
        *(jax.process_index(), jax.process_count(), jax.local_device_count(), jax.device_count()),
    )
    # Devices wait half a minute for each other the first time, and later as long as it takes.
    meet("joined")


def several_in(environment: Mapping[str, str]) -> bool:
    """Whether an environment shows more than one process.

    Args:
        environment: variables.

    Returns:
        True inside `srun` with several tasks, on one host of a TPU slice with several on GKE, and
        below `mpirun`.
    """
    if "SLURM_STEP_NODELIST" in environment and "SLURM_PROCID" in environment:
        return int(environment.get("SLURM_NTASKS", "1")) > 1
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES", "")
    if "," in hosts or int(environment.get("MEGASCALE_NUM_SLICES") or "1") > 1:
        return True
    return int(environment.get("OMPI_COMM_WORLD_SIZE", "1")) > 1


def place_among_processes() -> tuple[int, int]:
    """(number of this process, from 0; processes of the run)."""
    if not joined():
        return 0, 1  # without asking JAX, which would start its devices
    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """Whether this process writes what a run leaves once: its config, metrics and student."""
    return place_among_processes()[0] == 0


def all_of(fine: bool) -> bool:
    """Whether something holds in every process of the run; all of them ask."""
    if not joined():
        return fine
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.int32(fine)).min())


def joined() -> bool:
    """Whether this process is one of a run's, asked without starting any device."""
    return jax.distributed.is_initialized()


def met_by_all(error: Exception) -> bool:
    """Whether no process of the run has met an error alone, so that all may go on without it.

    Args:
        error: what ended a part of the run's work.

    Returns:
        False where the others may have met nothing, and would wait for this process for ever.
    """
    alone = place_among_processes()[1] == 1
    return alone or isinstance(error, ConfigError | NonFiniteError)


def leave(code: int) -> None:
    """Ends this process at once where it is one of several, whatever the others do.

    Python's own end would wait for them for minutes, and then change the exit code; without its
    signs of life they end within `HEARTBEAT_SECONDS`. The first process, without which the others
    end at once, lets those go before it that end for the same reason.

    Args:
        code: exit code.
    """
    if joined():
        with contextlib.suppress(Exception):  # devices that do not start tell nobody's number
            if is_first():
                time.sleep(GRACE_SECONDS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def meet(place: str) -> None:
    """Waits until every process of the run is at the same place.

    Args:
        place: its name; processes that meet at different ones fail.
    """
    if joined():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(place)
