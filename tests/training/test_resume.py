"""Kill, resume, compare: an interrupted run ends bit for bit like an uninterrupted one."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from aft_jax.config import resolve, to_json
from aft_jax.errors import ConfigError, NonFiniteError
from aft_jax.training import train
from aft_jax.training.checkpoint import Checkpoints
from aft_jax.training.experiment import build, initial_state
from aft_jax.training.metrics import read_metrics

TRAIN_AND_DIE = """
import json, os, pathlib, signal, sys
from aft_jax.config import resolve
from aft_jax.training import train, trainer

kill_at = int(sys.argv[3])
original = trainer._Run.call

def call(self, state, steps, picks):
    if steps.start == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, state, steps, picks)

trainer._Run.call = call
train(resolve(json.loads(pathlib.Path(sys.argv[1]).read_text())), pathlib.Path(sys.argv[2]))
"""


def final_state(config, directory):
    like = initial_state(build(config), config.seed)
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.latest == config.steps
        return jax.device_get(checkpoints.restore(like))


def assert_identical(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def lines_without_time(directory):
    return [
        {key: value for key, value in line.items() if key != "steps_per_second"}
        for line in read_metrics(directory)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [0, 3, 7])
def test_killed_and_resumed_equals_uninterrupted(config, tmp_path, kill_at):
    (tmp_path / "config.json").write_text(to_json(config))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(config, whole)
    child = subprocess.run(
        [sys.executable, "-c", TRAIN_AND_DIE, tmp_path / "config.json", killed, str(kill_at)],
        check=False,
        capture_output=True,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert not (killed / "result.json").exists()
    train(config, killed)
    assert_identical(final_state(config, whole), final_state(config, killed))
    assert lines_without_time(whole) == lines_without_time(killed)
    assert (whole / "student/model.safetensors").read_bytes() == (
        killed / "student/model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_killed_from_outside_at_any_moment(config, tmp_path):
    """SIGKILL by the clock, also in the middle of a save; then the run is resumed to its end."""
    config = dataclasses.replace(config, steps=24)
    (tmp_path / "config.json").write_text(to_json(config))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(config, whole)
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", TRAIN_AND_DIE, tmp_path / "config.json", killed, "-1"],
            stderr=subprocess.DEVNULL,
            cwd=pathlib.Path(__file__).parents[2],
        )
        metrics = killed / "metrics.jsonl"
        lines = len(read_metrics(killed)) if metrics.exists() else 0
        while child.poll() is None and (
            not metrics.exists() or len(read_metrics(killed)) < lines + 3
        ):
            time.sleep(0.002)
        child.kill()
        child.wait()
    train(config, killed)
    assert_identical(final_state(config, whole), final_state(config, killed))
    assert lines_without_time(whole) == lines_without_time(killed)


def test_a_complete_run_is_returned_and_not_run_again(config, tmp_path):
    first = train(config, tmp_path)
    written = (tmp_path / "metrics.jsonl").read_bytes()
    assert train(config, tmp_path) == first
    assert (tmp_path / "metrics.jsonl").read_bytes() == written


def test_another_config_in_the_directory_is_refused_by_key(config, tmp_path):
    train(config, tmp_path)
    optim = dataclasses.replace(config.optim, learning_rate=0.5)
    changed = dataclasses.replace(config, steps=10, optim=optim)
    with pytest.raises(
        ConfigError, match=r"optim\.learning_rate is 0\.03 there and 0\.5 now; steps is 8 there"
    ):
        train(changed, tmp_path)


def test_config_json_is_the_resolved_config(config, tmp_path):
    train(config, tmp_path)
    assert resolve(json.loads((tmp_path / "config.json").read_text())) == config


def test_metrics_have_train_and_tune_lines(config, tmp_path):
    train(config, tmp_path)
    lines = read_metrics(tmp_path)
    assert [(line["step"], line["split"]) for line in lines] == [
        (step, split) for step in (2, 4, 6, 8) for split in ("train", "tune")
    ]
    train_line = lines[-2]
    total = train_line["task_loss"] + config.beta * train_line["regularizer"]
    assert train_line["loss"] == pytest.approx(total, rel=1e-5)
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_non_finite_loss_stops_the_run_and_keeps_the_last_good_checkpoint(config, tmp_path):
    """The learning rate overflows the weights once the warm-up is over."""
    optim = dataclasses.replace(config.optim, learning_rate=1e38, warmup_steps=8)
    config = dataclasses.replace(config, optim=optim, log_every=1, eval_every=1, checkpoint_every=1)
    with pytest.raises(NonFiniteError, match="loss and gradients are finite") as raised:
        train(config, tmp_path)
    message = str(raised.value)
    step = int(message.split("at step ")[1].split()[0])
    checkpoint = int(message.split("Last good checkpoint: step ")[1].split()[0])
    assert checkpoint == step - 1
    experiment = build(config)
    ids = message.split("examples: ")[1].rstrip(".").split(", ")
    assert len(ids) == config.batch_size
    assert set(ids) <= set(experiment.train.dataset.ids.tolist())
    with Checkpoints(tmp_path) as checkpoints:
        state = checkpoints.restore(initial_state(experiment, config.seed))
    assert int(state.step) == checkpoint
    assert not (tmp_path / "result.json").exists()
    os.stat(tmp_path / "checkpoints" / str(checkpoint))


def test_a_start_that_fails_claims_nothing(config, tmp_path):
    """A mistake in the config is corrected in the same directory."""
    for wrong in ({"method": "aftt"}, {"batch_size": 5000}, {"teachers": {}}):
        with pytest.raises(ConfigError, match="config"):
            train(dataclasses.replace(config, **wrong), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_lost_its_student_is_finished_again(config, tmp_path):
    train(config, tmp_path)
    weights = (tmp_path / "student/model.safetensors").read_bytes()
    (tmp_path / "student/model.safetensors").unlink()
    train(config, tmp_path)
    assert (tmp_path / "student/model.safetensors").read_bytes() == weights


def test_one_checkpoint_at_the_end_of_any_number_of_steps(config, tmp_path):
    """What `compare` asks for, also where the steps are no multiple of `log_every`."""
    config = dataclasses.replace(config, steps=5, checkpoint_every=5)
    train(config, tmp_path)
    assert resolve(json.loads((tmp_path / "config.json").read_text())) == config
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 5


def test_without_the_teacher_its_store_is_used_with_a_warning(config, tmp_path, caplog):
    teacher = dataclasses.replace(config.teachers["wide_cnn"], source=str(tmp_path / "gone"))
    build(dataclasses.replace(config, teachers={"wide_cnn": teacher}))
    assert "its store is not compared with its weights" in caplog.text
