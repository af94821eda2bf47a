"""Streaming a feature store against gathering from a NumPy memory map.

    python benchmarks/feature_store.py [--rows=1000000] [--width=1536] [--directory=DIR]

Writes 1,000,000 x 1,536 bfloat16 features (3 GB) with the store's own writer, and the same rows as
one flat file. Two child processes then take turns at shuffled batches of 1,024 rows: one streams
the store the way a run does, from `prefetched` threads to arrays of the device, the other indexes
`np.memmap`. Goals: at least half the throughput, and at most 1 GiB of resident memory at its peak,
opening the store with the check of all its hashes included. Both files are deleted at the end.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import ml_dtypes
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from benchmarks.timing import describe_machine

BATCH_ROWS = 1024
BATCHES = 200
REPEATS = 9
THREADS = 2
THROUGHPUT_GOAL = 0.5
MEMORY_GOAL = 1024.0  # MiB
FLAT = "flat.bin"


def example_ids(rows: int) -> np.ndarray:
    return np.char.mod("%012x", np.arange(rows))


def generate(rows: int, width: int, flat: pathlib.Path) -> Iterator[np.ndarray]:
    """Random finite features, written to the flat file on the way."""
    random = np.random.default_rng(0)
    with flat.open("wb") as file:
        for start in range(0, rows, 4096):
            count = min(4096, rows - start)
            bits = np.frombuffer(random.bytes(2 * count * width), np.uint16) & 0xBFFF  # below 2
            file.write(bits.tobytes())
            yield bits.view(ml_dtypes.bfloat16).reshape(count, width)


def write(directory: pathlib.Path, rows: int, width: int) -> None:
    from aft_jax.features import write_store

    described = {
        **{"teacher_id": "random", "teacher_revision": "", "teacher_weights_sha256": ""},
        **{"teacher_parameters": 0, "preprocessing": "", "pooling": ""},
        **{"dataset_name": "random", "dataset_version": "", "dataset_split": "train"},
    }
    began = time.perf_counter()
    batches = generate(rows, width, directory / FLAT)
    path, ids = str(directory / "store"), example_ids(rows)
    write_store(path, ids, batches, width, dtype="bfloat16", **described)
    seconds = time.perf_counter() - began
    print(f"generated and written in {seconds:.1f} s", flush=True)


def stream(directory: pathlib.Path, rows: int, width: int) -> None:
    """The store's side: answers every line on stdin with the seconds of one round."""
    import jax
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    from aft_jax.data import prefetched
    from aft_jax.features import load_features, open_store

    began = time.perf_counter()
    mesh = jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=jax.devices()[:1])
    features = load_features(
        {"random": open_store(str(directory / "store"), {})},
        example_ids(rows),
        residency="stream",
        missing="error",
        sharding=NamedSharding(mesh, P("data")),
    )
    print(f"{time.perf_counter() - began:.1f}", flush=True)
    for order in rounds(rows):
        began = time.perf_counter()
        for batch in prefetched(
            lambda step, order=order: features.batch(order[step], None)[0]["random"],
            0,
            BATCHES,
            THREADS,
            2 * THREADS,
        ):
            jax.block_until_ready(batch)
        print(time.perf_counter() - began, peak_mebibytes(), flush=True)


def gather(directory: pathlib.Path, rows: int, width: int) -> None:
    """NumPy's side, in the fastest type of that width."""
    array = np.memmap(directory / FLAT, np.uint16, "r", shape=(rows, width))
    print("0.0", flush=True)
    for order in rounds(rows):
        began = time.perf_counter()
        for step in range(BATCHES):
            _ = array[order[step]]
        print(time.perf_counter() - began, peak_mebibytes(), flush=True)


def rounds(rows: int) -> Iterator[np.ndarray]:
    """Shuffled batches for every line on stdin, the same on both sides."""
    for number, _ in enumerate(sys.stdin):
        random = np.random.default_rng(number)
        yield random.permutation(rows)[: BATCHES * BATCH_ROWS].reshape(BATCHES, -1)


def peak_mebibytes() -> float:
    """The most resident memory that this process ever had."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the peak of resident memory is read from /proc, which is Linux")


def measure(directory: pathlib.Path, arguments: list[str]) -> None:
    children = {
        side: subprocess.Popen(
            [sys.executable, __file__, side, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        for side in ("stream", "gather")
    }
    opened = {side: answer(child)[0] for side, child in children.items()}
    times: dict[str, list[float]] = {side: [] for side in children}
    peaks = dict.fromkeys(children, 0.0)
    for repeat in range(REPEATS + 1):
        for side in list(children)[:: 1 if repeat % 2 else -1]:
            child = children[side]
            if child.stdin:
                print("go", file=child.stdin, flush=True)
            seconds, peaks[side] = answer(child)
            if repeat:  # the first round brings the files into the cache
                times[side].append(seconds)
    for child in children.values():
        child.communicate()
    report(opened["stream"], times, peaks)


def answer(child: subprocess.Popen) -> list[float]:
    line = child.stdout.readline() if child.stdout else ""
    if not line:
        raise RuntimeError(f"a child process ended with status {child.wait()}")
    return [float(word) for word in line.split()]


def report(opened: float, times: dict[str, list[float]], peaks: dict[str, float]) -> None:
    ratio = statistics.median(
        flat / ours for ours, flat in zip(times["stream"], times["gather"], strict=True)
    )
    for side, label in (("stream", "store, streamed"), ("gather", "np.memmap gather")):
        milliseconds = 1e3 * statistics.median(times[side]) / BATCHES
        print(
            f"{label:<18} {milliseconds:6.3f} ms a batch of {BATCH_ROWS}, "
            f"{BATCH_ROWS / milliseconds / 1e3:5.2f} M rows/s, peak {peaks[side]:6.0f} MiB"
        )
    print(f"opening the store, all hashes checked: {opened:.1f} s")
    verdict = "met" if ratio >= THROUGHPUT_GOAL else "missed"
    print(f"throughput, store / memmap: {ratio:.3f}, goal at least {THROUGHPUT_GOAL}: {verdict}")
    verdict = "met" if peaks["stream"] < MEMORY_GOAL else "missed"
    print(f"peak memory: {peaks['stream']:.0f} MiB, goal under {MEMORY_GOAL:.0f}: {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sides = {"write": write, "stream": stream, "gather": gather}
    parser.add_argument("side", nargs="?", choices=sides, help="run by the benchmark itself")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--directory", help="with room for twice the features")
    options = parser.parse_args()
    if options.side:
        sides[options.side](pathlib.Path(options.directory), options.rows, options.width)
        return
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        arguments = [
            f"--rows={options.rows}",
            f"--width={options.width}",
            f"--directory={directory}",
        ]
        subprocess.run([sys.executable, __file__, "write", *arguments], check=True)
        measure(pathlib.Path(directory), arguments)


if __name__ == "__main__":
    main()
