"""Saves in the background, saves that fail, and disks that are full; all of it really happens."""

import contextlib
import dataclasses
import gc
import os
import pathlib
import shutil
import subprocess
import threading
import types

import jax.numpy as jnp
import pytest

from aft_jax import cli
from aft_jax.errors import StorageError
from aft_jax.features import extract
from aft_jax.features.kv import Directory
from aft_jax.features.writer import StoreWriter
from aft_jax.files import full_disk, has_failed, is_full, made_workdir, write_whole
from aft_jax.training import checkpoint, train, trainer
from aft_jax.training.metrics import read_metrics
from aft_jax.training.saved import steps_in
from tests.training.conftest import stage
from tests.training.test_preemption import digits

BLOCK = 4096


def close_coroutines():
    """Ends what Orbax's failed writes leave, which complains when a later test collects it."""
    for left in gc.get_objects():
        if type(left) is types.CoroutineType:
            with contextlib.suppress(Exception):
                left.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB; of root, or where `sudo` asks for no password."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=1777", "tmpfs", str(place)]
    for prefix in ([], ["sudo", "-n"]):
        with contextlib.suppress(OSError):
            if not subprocess.run([*prefix, *mount], check=False, capture_output=True).returncode:
                yield place
                close_coroutines()
                subprocess.run([*prefix, "umount", "-l", str(place)], check=True)
                return
    pytest.skip("mounting a small disk needs root, or sudo without a password")


def fill(disk, left=0):
    """Leaves so many bytes."""
    with contextlib.suppress(OSError), (disk / "ballast").open("wb") as file:
        while True:
            os.write(file.fileno(), bytes(BLOCK))
    os.truncate(disk / "ballast", (disk / "ballast").stat().st_size - left)


def before_call(monkeypatch, number, action):
    """Does something in the `number`-th call of the next training."""
    original, calls = trainer._Run.call, []

    def call(self, *given):
        calls.append(0)
        if len(calls) == number:
            action(self)
        return original(self, *given)

    monkeypatch.setattr(trainer._Run, "call", call)


@pytest.fixture(scope="module")
def student(prepared, tmp_path_factory):
    """What the uninterrupted run writes."""
    directory = tmp_path_factory.mktemp("whole")
    train(stage("student", prepared, batch_size=40, steps=8, devices=1), directory)
    return (directory / "student/model.safetensors").read_bytes()


def fill_after_step_4(monkeypatch, disk, left):
    before_call(monkeypatch, 5, lambda run: (run.checkpoints.wait(), fill(disk, left)))


@pytest.mark.parametrize("noticed", ["before", "while"])
# Orbax's threads complain to closed event loops when their writes fail.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_is_full_for_a_checkpoint(
    prepared, student, small_disk, monkeypatch, capsys, noticed
):
    """Before it is begun; and while it is written, where the room went meanwhile."""
    run = small_disk / "run"
    arguments = digits("train", prepared, f"--workdir={run}")
    with monkeypatch.context() as patch:
        fill_after_step_4(patch, small_disk, 6 * BLOCK)
        if noticed == "while":
            patch.setattr(checkpoint, "require_room", lambda *given: None)
        assert cli.main(arguments) == cli.EXIT_STORAGE
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"{run}/checkpoints could not be written: the disk (or your quota) is full, " in last
    assert f"Last good checkpoint: step 4 in {run}/checkpoints." in last
    assert "Free space, then the same command resumes." in last
    assert steps_in(run / "checkpoints") == [2, 4]
    (small_disk / "ballast").unlink()
    assert cli.main(arguments) == 0
    assert (run / "student/model.safetensors").read_bytes() == student


def test_a_disk_that_is_full_for_a_line_of_metrics(prepared, small_disk, monkeypatch, capsys):
    run = small_disk / "run"
    arguments = digits("train", prepared, f"--workdir={run}", "--config.checkpoint_every=20")
    arguments += ["--config.steps=40", "--config.log_every=1", "--config.eval_every=1"]
    with monkeypatch.context() as patch:
        before_call(patch, 22, lambda run: (run.checkpoints.wait(), fill(small_disk)))
        assert cli.main(arguments) == cli.EXIT_STORAGE
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"{run}/metrics.jsonl could not be written: the disk (or your quota) is full, " in last
    assert f"Last good checkpoint: step 20 in {run}/checkpoints." in last
    (small_disk / "ballast").unlink()
    assert cli.main(arguments) == 0
    assert [line["step"] for line in read_metrics(run) if line["split"] == "tune"] == [
        *range(1, 41)
    ]


def test_a_disk_that_is_full_when_the_student_is_written(
    prepared, student, small_disk, monkeypatch, capsys
):
    run = small_disk / "run"
    arguments = digits("train", prepared, f"--workdir={run}")
    finish = trainer.finish

    def full(*given):
        fill(small_disk)
        return finish(*given)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "finish", full)
        assert cli.main(arguments) == cli.EXIT_STORAGE
    assert f"{run}/student/" in capsys.readouterr().err.splitlines()[-1]
    assert not list(run.rglob("*.partial"))
    (small_disk / "ballast").unlink()
    assert cli.main(arguments) == 0
    assert (run / "student/model.safetensors").read_bytes() == student


def test_a_disk_that_fills_up_during_an_extraction(prepared, small_disk, monkeypatch, capsys):
    """The store that is whole stays and is not computed again; the other one goes on."""
    arguments = digits("extract", prepared, f"--config.features.directory={small_disk}/features")
    finish = StoreWriter.finish

    def full(self):
        manifest = finish(self)
        fill(small_disk)
        return manifest

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "finish", full)
        assert cli.main(arguments) == cli.EXIT_STORAGE
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"{small_disk}/features/wide_cnn/digits-tune/" in last
    assert "0 are free. Finished files and shards stay. Free space" in last
    (small_disk / "ballast").unlink()
    whole = small_disk / "features/wide_cnn/digits-train/manifest.json"
    before = whole.stat().st_mtime_ns
    assert cli.main(arguments) == 0
    assert whole.stat().st_mtime_ns == before
    config = stage("student", prepared)
    features = dataclasses.replace(config.features, directory=str(small_disk / "features"))
    assert len(extract(dataclasses.replace(config, features=features))) == 2


def test_a_full_disk_keeps_the_old_file(small_disk):
    file = small_disk / "config.json"
    write_whole(file, "old")
    fill(small_disk)
    with pytest.raises(StorageError, match=rf"{file} could not be written.*8,192 bytes are needed"):
        write_whole(file, bytes(2 * BLOCK))
    assert file.read_text() == "old"
    (small_disk / "ballast").unlink()
    assert [path.name for path in small_disk.iterdir()] == ["config.json"]


def test_what_says_that_a_disk_is_full():
    quota = ValueError("RESOURCE_EXHAUSTED: writing: Disk quota exceeded [os_error_code='122']")
    caused = RuntimeError("a save failed")
    caused.__cause__ = OSError(28, "No space left on device")
    assert all(map(is_full, (quota, caused, OSError(122, "Disk quota exceeded"))))
    assert not any(map(is_full, (None, ValueError("x"), OSError(13, "Permission denied"))))
    assert "1,234 bytes are needed" in str(full_disk(pathlib.Path("/nowhere/at/all"), 1234))


def test_what_says_that_storage_has_failed(tmp_path):
    tensorstore = ValueError("UNKNOWN: reading: Input/output error [source locations='x']")
    assert has_failed(tensorstore)
    assert has_failed(OSError(116, "Stale file handle"))
    assert not any(map(has_failed, (ValueError("x"), OSError(2, "No such file or directory"))))
    with pytest.raises(OSError, match="Stale"), made_workdir(tmp_path):  # no other place helps
        raise OSError(116, "Stale file handle")


def test_a_store_on_storage_that_fails(tmp_path, monkeypatch):
    def failing(self):
        raise ValueError("UNKNOWN: listing: Input/output error")

    monkeypatch.setattr(Directory, "_kvstore", failing)
    for act in (Directory(str(tmp_path)).names, lambda: Directory(str(tmp_path)).write("x", b"")):
        with pytest.raises(StorageError, match="Input/output error"):
            act()


def test_steps_go_on_while_a_save_is_slow(config, tmp_path, monkeypatch):
    """The save of step 6 ends when step 8 begins, where a loop that waits for it never comes."""
    config = dataclasses.replace(config, checkpoint_every=6)
    began, released, committed = threading.Event(), threading.Event(), []
    original = checkpoint._Manager._finalize_checkpoint

    def slow(self, step):
        began.set()
        assert released.wait(60)
        original(self, step)
        committed.append(step)

    def look(run):
        assert began.wait(60)
        assert committed == []
        released.set()

    monkeypatch.setattr(checkpoint._Manager, "_finalize_checkpoint", slow)
    before_call(monkeypatch, 8, look)
    train(config, tmp_path)
    assert committed == [6, 8]


def test_what_is_saved_already_needs_no_room(tmp_path, monkeypatch):
    """As where the machine is wanted back at the step of a checkpoint."""
    state = {"x": jnp.ones(3)}
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, 5)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(total=9, free=0))
        checkpoints.save(state, 5)
        with pytest.raises(StorageError, match=r"Last good checkpoint: step 5"):
            checkpoints.save(state, 6)


def test_a_save_that_fails_in_the_background_is_a_clear_error(config, tmp_path, monkeypatch):
    config = dataclasses.replace(config, checkpoint_every=2)
    original = checkpoint._Manager._finalize_checkpoint

    def lost(self, step):
        if step == 4:
            raise OSError(116, "Stale file handle")
        original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint._Manager, "_finalize_checkpoint", lost)
        message = r"a save failed: .*Stale file handle\. Last good checkpoint: step \d in .*Repair"
        with pytest.raises(StorageError, match=message):
            train(config, tmp_path)
    assert 2 in steps_in(tmp_path / "checkpoints")
    assert train(config, tmp_path)["step"] == 8
