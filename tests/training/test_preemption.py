"""SIGTERM: the state is saved, the exit code says so, and the same command goes on exactly."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from aft_jax import cli
from aft_jax.errors import Preempted
from aft_jax.features.writer import StoreWriter
from aft_jax.preemption import Preemption, stops_at_once
from aft_jax.training import train, trainer
from aft_jax.training.checkpoint import Checkpoints
from aft_jax.training.experiment import build, initial_state
from aft_jax.training.metrics import read_metrics

ROOT = pathlib.Path(__file__).parents[2]
CHILD = ROOT / "tests/training/fault_child.py"


def digits(verb, prepared, *more):
    """A command line about the prepared student, in smoke size on one device."""
    return [
        *(verb, f"--config={ROOT}/configs/digits.py:stage=student,smoke"),
        f"--config.features.directory={prepared}/features",
        f"--config.student.init_from={prepared}/pretrain",
        f"--config.teachers.wide_cnn.source={prepared}/teacher",
        *("--config.batch_size=40", "--config.steps=8", "--config.devices=1", *more),
    ]


def child(fault, step, arguments):
    return subprocess.run(
        [sys.executable, CHILD, fault, str(step), *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def final_state(config, directory):
    like = initial_state(build(config), config.seed)
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.latest == config.steps
        return jax.device_get(checkpoints.restore(like))


def interrupt_at(monkeypatch, number):
    """Sends this process SIGTERM in the `number`-th call of the next training."""
    original, calls = trainer._Run.call, []

    def call(self, *given):
        calls.append(0)
        if len(calls) == number:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *given)

    monkeypatch.setattr(trainer._Run, "call", call)


@pytest.mark.parametrize("number", [1, 3, 8])
def test_preempted_and_resumed_equals_uninterrupted(config, tmp_path, monkeypatch, number):
    """Also at a step that no checkpoint was due at, and at the last."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    config = dataclasses.replace(config, checkpoint_every=4)
    train(config, whole)
    with monkeypatch.context() as patch:
        interrupt_at(patch, number)
        with pytest.raises(Preempted, match=rf"preempted at step {number}; saved in .*cut") as end:
            train(config, cut)
    assert end.value.code == 75
    assert not (cut / "result.json").exists()
    with Checkpoints(cut) as checkpoints:
        assert checkpoints.latest == number
    assert train(config, cut)["tune"] == train(config, whole)["tune"]
    pair = zip(*(jax.tree.leaves(final_state(config, d)) for d in (whole, cut)), strict=True)
    for a, b in pair:
        np.testing.assert_array_equal(a, b)
    lines = {line["step"]: line for line in read_metrics(cut) if line["split"] == "tune"}
    for line in read_metrics(whole):
        if line["split"] == "tune":
            assert lines[line["step"]] == line


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices(config, tmp_path, monkeypatch):
    """8, then 1, then 2 devices end where 1 alone does, but for the order of float32 sums."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(config, whole)
    for devices in (8, 1):
        with monkeypatch.context() as patch:
            interrupt_at(patch, 3)
            with pytest.raises(Preempted, match="preempted at step"):
                train(dataclasses.replace(config, devices=devices), cut)
    train(dataclasses.replace(config, devices=2), cut)
    pair = zip(*(jax.tree.leaves(final_state(config, d)) for d in (whole, cut)), strict=True)
    for a, b in pair:
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_the_command_line_exits_with_75_and_says_what_to_do(prepared, tmp_path):
    arguments = digits("train", prepared, f"--workdir={tmp_path}/run")
    ended = child("term", 3, arguments)
    assert ended.returncode == 75, ended.stderr
    assert ended.stderr.splitlines()[-1] == (
        f"aft-jax: preempted at step 3; saved in {tmp_path}/run/checkpoints; "
        "the same command resumes."
    )
    assert "Traceback" not in ended.stderr
    assert cli.main(arguments) == 0


def test_an_extraction_ends_where_it_is_and_goes_on(prepared, tmp_path, monkeypatch, capsys):
    arguments = digits("extract", prepared, f"--config.features.directory={tmp_path}")
    finish = StoreWriter.finish

    def preempted(self):
        manifest = finish(self)
        signal.raise_signal(signal.SIGTERM)
        return manifest

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "finish", preempted)
        assert cli.main(arguments) == 75
    assert capsys.readouterr().err.splitlines()[-1] == (
        "aft-jax: preempted; what was finished is kept; the same command resumes."
    )
    assert len(list(tmp_path.rglob("manifest.json"))) == 1
    assert cli.main(arguments) == 0
    assert len(list(tmp_path.rglob("manifest.json"))) == 2


@pytest.mark.slow
def test_a_second_signal_ends_at_once(prepared, tmp_path):
    """And what was committed before stays."""
    arguments = digits("train", prepared, f"--workdir={tmp_path}/run")
    ended = child("term-twice", 6, arguments)
    assert ended.returncode == -signal.SIGTERM, ended.stderr
    assert cli.main(arguments) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("compare", ()),
        ("sweep", ("--config.sweep.together=0",)),
    ],
)
def test_a_plan_of_runs_saves_the_one_under_way(prepared, tmp_path, capsys, verb, more):
    """The 11th call is in the second run, or of a group the third step after a fresh start."""
    plan = digits(verb, prepared, *more)
    whole, cut = [[*plan, f"--workdir={tmp_path}/{name}"] for name in ("whole", "cut")]
    ended = child("term", 3 if more == ("--config.sweep.together=0",) else 11, cut)
    assert ended.returncode == 75, ended.stderr
    assert "preempted at step 3; saved in" in ended.stderr.splitlines()[-1]
    assert "failed" not in ended.stderr
    assert [cli.main(cut), cli.main(whole)] == [0, 0]
    found = {
        directory: {
            path.relative_to(tmp_path / directory): path.read_bytes()
            for path in (tmp_path / directory).glob("trials/*/student/model.safetensors")
        }
        for directory in ("cut", "whole")
    }
    assert len(found["whole"]) >= 2
    assert found["cut"] == found["whole"]


def test_outside_a_loop_it_ends_where_it_is():
    with pytest.raises(Preempted, match="what was finished is kept"), stops_at_once():
        signal.raise_signal(signal.SIGTERM)


def loop_until_preempted():
    with Preemption() as preemption:
        assert not preemption.requested()
        signal.raise_signal(signal.SIGTERM)
        assert preemption.requested()
        for number in (signal.SIGTERM, signal.SIGINT):
            assert signal.getsignal(number) == signal.SIG_DFL
        raise Preempted("stop")


def test_inside_a_loop_it_is_noted_and_the_signals_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with stops_at_once():
        outer = signal.getsignal(signal.SIGTERM)
        with pytest.raises(Preempted, match="stop"):
            loop_until_preempted()
        assert signal.getsignal(signal.SIGTERM) == outer
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_one_after_the_last_question_is_not_lost():
    with pytest.raises(Preempted, match="what was finished is kept"), Preemption():
        signal.raise_signal(signal.SIGTERM)


def test_another_thread_trains_without_touching_signals():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with Preemption() as preemption:
            seen.append((preemption.requested(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_a_program_that_lets_it_pass_exits_with_75():
    program = "from aft_jax.errors import Preempted; raise Preempted('x')"
    ended = subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT)
    assert ended.returncode == 75
