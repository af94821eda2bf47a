"""Two real processes, as on two hosts: one is preempted, or killed; the restarted job goes on."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from aft_jax.distributed import HEARTBEAT_SECONDS
from aft_jax.students import load_student
from aft_jax.training import train
from aft_jax.training.saved import steps_in
from tests.training.conftest import stage
from tests.training.test_preemption import ROOT, digits
from tests.xla import flags


def start(faults, arguments):
    """A process for each (fault, step); they find each other over the loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = [f"--coordinator=127.0.0.1:{port}", f"--processes={len(faults)}"]
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.training.fault_child", fault, str(step)),
                *(*arguments, *together, f"--process={number}"),
            ],
            cwd=ROOT,
            env=os.environ | {"XLA_FLAGS": flags(devices=4)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number, (fault, step) in enumerate(faults)
    ]


def ended(children):
    """[(exit code, output)]"""
    outputs = [child.communicate(timeout=240)[0] for child in children]
    return [(child.returncode, text) for child, text in zip(children, outputs, strict=True)]


def both(prepared, directory, *more):
    return [*digits("train", prepared, f"--workdir={directory}"), "--config.devices=0", *more]


def assert_students_agree(directory, expected):
    """But for the order of float32 sums."""
    pair = [jax.tree.leaves(load_student(place).variables) for place in (directory, expected)]
    for a, b in zip(*pair, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@pytest.fixture(scope="module")
def alone(prepared, tmp_path_factory) -> pathlib.Path:
    """The same run, uninterrupted, by one process with one device."""
    directory = tmp_path_factory.mktemp("alone")
    train(stage("student", prepared, batch_size=40, steps=8, devices=1), directory)
    return directory


@pytest.mark.slow
def test_one_preempted_host_stops_both_at_one_step(prepared, tmp_path):
    """The notice reaches the other within a second or so, hence the long run."""
    lengths = ("eval_every", "checkpoint_every", "steps")
    long = [f"--config.{name}=100000" for name in lengths]
    arguments = both(prepared, tmp_path, *long, "--config.log_every=10")
    results = ended(start([("none", 0), ("term", 5)], arguments))
    assert [code for code, _ in results] == [75, 75], results
    (step,) = steps_in(tmp_path / "checkpoints")
    for _, text in results:
        assert f"aft-jax: preempted at step {step}; saved in" in text.splitlines()[-1]
    again = ended(start([("none", 0), ("term", 5)], arguments))
    assert [code for code, _ in again] == [75, 75], again
    assert steps_in(tmp_path / "checkpoints")[-1] > step


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1], ids=["the coordinator", "another"])
def test_one_killed_host_ends_the_other_within_a_minute(prepared, alone, tmp_path, victim):
    faults = [("kill", 5) if number == victim else ("none", 0) for number in range(2)]
    children = start(faults, both(prepared, tmp_path))
    assert ended([children[victim]])[0][0] == -signal.SIGKILL
    killed = time.monotonic()
    code, text = ended([children[1 - victim]])[0]
    assert time.monotonic() - killed < min(60, 2 * HEARTBEAT_SECONDS)
    assert code not in (0, 75)
    assert "another task died" in text
    assert not (tmp_path / "result.json").exists()
    results = ended(start([("none", 0), ("none", 0)], both(prepared, tmp_path)))
    assert [code for code, _ in results] == [0, 0], results
    assert_students_agree(tmp_path, alone)
