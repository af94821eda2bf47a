"""Where features have room."""

import socket
import zlib
from typing import NamedTuple

import jax
import numpy as np
import psutil
from jax.sharding import NamedSharding

DEVICE_SHARE = 1 / 4
"""Of a device's free memory; the rest is for the student, its optimizer and activations."""
HOST_SHARE = 1 / 2
"""Of the host's available memory; the rest is for the examples."""


class Choice(NamedTuple):
    """Where features are kept.

    Attributes:
        residency: "device", "host" or "stream".
        reason: size and memory, for the log.
    """

    residency: str
    reason: str


def choose(residency: str, size: int, sharding: NamedSharding) -> Choice:
    """Settles "auto": the first of device, host and disk with room.

    Args:
        residency: "device", "host" or "stream" as asked for, or "auto".
        size: bytes of all features.
        sharding: names the devices, each of which would hold all of them.

    Returns:
        The choice; the same in all processes of a run.
    """
    need = f"{size / 2**20:,.1f} MiB"
    if residency != "auto":
        return Choice(residency, f"{need}, as config.features.residency says")
    device, host = free_memory(sharding)
    if device and size <= DEVICE_SHARE * device:
        return Choice("device", f"{need} of {device / 2**20:,.0f} MiB free on each device")
    on_device = (
        f"{device / 2**20:,.0f} MiB are free on each device"
        if device
        else ("the devices report no memory of their own")
    )
    if size <= HOST_SHARE * host:
        return Choice(
            "host", f"{need} of {host / 2**20:,.0f} MiB available on the host; {on_device}"
        )
    return Choice(
        "stream", f"{need} are too much for {host / 2**20:,.0f} MiB on the host; {on_device}"
    )


def free_memory(sharding: NamedSharding) -> tuple[int, int]:
    """Free bytes.

    Args:
        sharding: names the devices.

    Returns:
        (on each device, 0 where devices have no memory of their own, like a CPU; on the host): the
        least of all processes, so that they decide alike.
    """
    return _least_over_processes(_free_on_devices(sharding), psutil.virtual_memory().available)


def _free_on_devices(sharding: NamedSharding) -> int:
    """The least free memory of this process's devices; 0 where they do not tell, like a CPU."""
    free = []
    for device in sharding.addressable_devices:
        stats = device.memory_stats() or {}
        free.append(max(0, stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0)))
    return min(free)


def _least_over_processes(device: int, host: int) -> tuple[int, int]:
    """All processes must choose alike: a gather on the device is a program of all of them.

    Those on one host share its memory.
    """
    if jax.process_count() == 1:
        return device, host
    from jax.experimental import multihost_utils

    name = zlib.crc32(socket.gethostname().encode()) >> 1
    told = np.array([device >> 20, host >> 20, name], np.int32)  # JAX makes int32 of all
    devices, hosts, names = multihost_utils.process_allgather(told).T
    sharing = np.sum(names[:, None] == names, axis=1)
    return int(devices.min()) << 20, int((hosts // sharing).min()) << 20
