"""Paired timings on a noisy machine: candidates take turns, and medians are compared."""

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Measured(NamedTuple):
    """One compiled candidate.

    Attributes:
        milliseconds: median wall time of a call.
        megabytes: results and temporaries, the inputs not counted.
    """

    milliseconds: float
    megabytes: float


def describe_machine() -> str:
    """What a reader needs to know to compare these numbers with others."""
    devices = jax.devices()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, load {load}; "
        f"{devices[0].device_kind} x {len(devices)}; Python {platform.python_version()}, "
        f"jax {jax.__version__}, jaxlib {importlib.metadata.version('jaxlib')}"
    )


def measure(
    candidates: Mapping[str, Callable[..., Any]], arguments: tuple[Any, ...], repeats: int
) -> dict[str, Measured]:
    """Compiles every candidate for the same arguments and times them in turn, `repeats` rounds.

    Args:
        candidates: label -> function of `arguments`.
        arguments: arrays, already on the device.
        repeats: rounds; the order within a round alternates.

    Returns:
        label -> its measurements.
    """
    compiled = {
        label: jax.jit(function).lower(*arguments).compile()
        for label, function in candidates.items()
    }
    for run in compiled.values():
        jax.block_until_ready(run(*arguments))
    times: dict[str, list[float]] = {label: [] for label in compiled}
    for repeat in range(repeats):
        order = list(compiled) if repeat % 2 == 0 else list(reversed(compiled))
        for label in order:
            start = time.perf_counter()
            jax.block_until_ready(compiled[label](*arguments))
            times[label].append(1e3 * (time.perf_counter() - start))
    return {
        label: Measured(statistics.median(times[label]), _megabytes(run))
        for label, run in compiled.items()
    }


def _megabytes(compiled: Any) -> float:
    memory = compiled.memory_analysis()
    return (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 2**20
