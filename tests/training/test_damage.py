"""A checkpoint that is no longer what was saved is named, put aside, and the one before is used."""

import itertools
import pathlib
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from aft_jax.errors import StorageError, UsageError
from aft_jax.training import train
from aft_jax.training.checkpoint import Checkpoints
from aft_jax.training.digest import device_digests, host_digests, leaf_names
from aft_jax.training.experiment import build, initial_state
from aft_jax.training.saved import DAMAGED, steps_in
from tests.training.conftest import stage


class State(NamedTuple):
    """Large enough for files of numbers alone."""

    step: Any
    params: Any
    died: Any


def state_after(step):
    rng = np.random.default_rng(step)
    params = {"kernel": rng.normal(size=(64, 64)).astype(np.float32), "layers": [np.ones(3)] * 2}
    params = jax.tree.map(lambda array: jnp.asarray(array, jnp.bfloat16), params) | {
        "bias": jnp.asarray(params["kernel"])
    }
    return State(jnp.int32(step), params, np.arange(3, dtype=np.int32) + step)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A directory with checkpoints of `state_after` 6 and 8 steps."""
    directory = tmp_path_factory.mktemp("source")
    with Checkpoints(directory) as checkpoints:
        for step in (6, 8):
            checkpoints.save(state_after(step), step)
    return directory


@pytest.fixture
def saved(source, tmp_path):
    """A copy of that directory, to be damaged."""
    shutil.copytree(source, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    """A finished run of eight steps, and its config."""
    config = stage("student", prepared, batch_size=40, steps=8, devices=1)
    directory = tmp_path_factory.mktemp("whole")
    train(config, directory)
    return config, directory


@pytest.fixture
def run(whole, tmp_path):
    """A copy of that run without its result, to be damaged."""
    shutil.copytree(whole[1], tmp_path / "run")
    (tmp_path / "run/result.json").unlink()
    return tmp_path / "run"


def newest(directory, like):
    """(step, state) that a run would go on from."""
    with Checkpoints(directory) as checkpoints:
        return checkpoints.latest, jax.device_get(checkpoints.restore(like))


def equal(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def flip(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 16
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(path):
    path.unlink()


def numbers(checkpoint):
    """The file that holds the arrays."""
    files = (checkpoint / "default/ocdbt.process_0/d").iterdir()
    return max(files, key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("damage", [flip, truncate, delete])
def test_no_damaged_file_gives_another_state(source, saved, damage):
    """Each file of the newest checkpoint in turn: what is restored was saved, at 8 or before."""
    names = [path.relative_to(saved) for path in saved.glob("checkpoints/8/**/*") if path.is_file()]
    put_aside = 0
    for name in sorted(names):
        shutil.rmtree(saved)
        shutil.copytree(source, saved)
        damage(saved / name)
        step, state = newest(saved, state_after(0))
        assert equal(state, state_after(step)), name
        assert (saved / DAMAGED / "8").exists() == (step == 6), name
        put_aside += step == 6
    assert put_aside >= 3  # the tree's metadata, the database's, and the numbers themselves


def test_a_flipped_bit_among_the_numbers_is_found(source, saved, caplog):
    """The file has bytes that mean nothing, too: with one of them changed, all is as saved."""
    found = 0
    for place in np.linspace(0.02, 0.98, 25):
        shutil.rmtree(saved)
        shutil.copytree(source, saved)
        flip(numbers(saved / "checkpoints/8"), place)
        step, state = newest(saved, state_after(0))
        assert equal(state, state_after(step))
        found += step == 6
    assert found >= 15
    assert "are not those that were saved" in caplog.text  # unseen by Orbax
    assert f"the checkpoint of step 8 in {saved / 'checkpoints'} is damaged" in caplog.text
    assert f"It is kept in {saved / DAMAGED / '8'}. The one of step 6 is looked at" in caplog.text


def test_whole_files_of_another_step_are_found(saved, caplog):
    shutil.copy(numbers(saved / "checkpoints/6"), numbers(saved / "checkpoints/8"))
    assert newest(saved, state_after(0))[0] == 6
    assert "step 8" in caplog.text


def empty(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def commit_marks_only(checkpoint):
    for path in [path for path in checkpoint.rglob("*") if path.is_file()]:
        if path.name != "commit_success.txt":
            path.unlink()


def no_marks(checkpoint):
    for path in [path for path in checkpoint.rglob("*") if path.is_file()]:
        if path.name in ("commit_success.txt", "_CHECKPOINT_METADATA", "_METADATA"):
            path.unlink()


@pytest.mark.parametrize("damage", [empty, commit_marks_only, no_marks])
def test_a_directory_that_is_no_checkpoint_is_put_aside(saved, damage):
    damage(saved / "checkpoints/8")
    assert newest(saved, state_after(0))[0] == 6
    assert steps_in(saved / DAMAGED) == [8]


def test_training_goes_on_from_the_one_before(whole, run, caplog):
    config, directory = whole
    like = initial_state(build(config), config.seed)
    truncate(run / "checkpoints/8/default/manifest.ocdbt")
    train(config, run)
    assert equal(newest(run, like), newest(directory, like))
    assert "step 8" in caplog.text
    assert steps_in(run / DAMAGED) == [8]


def test_training_starts_again_where_none_is_left(whole, run, caplog):
    config, directory = whole
    like = initial_state(build(config), config.seed)
    for step in (6, 8):
        truncate(run / f"checkpoints/{step}/default/manifest.ocdbt")
    train(config, run)
    assert equal(newest(run, like), newest(directory, like))
    assert "None is left: training starts again from step 0." in caplog.text
    assert steps_in(run / DAMAGED) == [6, 8]


def test_the_same_step_damaged_twice_is_kept_twice(saved):
    for _ in range(2):
        shutil.copytree(saved / "checkpoints/6", saved / "checkpoints/9")
        truncate(saved / "checkpoints/9/default/manifest.ocdbt")
        assert newest(saved, state_after(0))[0] == 8
    assert {path.name for path in (saved / DAMAGED).iterdir()} == {"9", "9-2"}


def test_a_save_that_was_cut_short_is_removed_by_name(saved, caplog):
    partial = saved / "checkpoints/10.orbax-checkpoint-tmp"
    shutil.copytree(saved / "checkpoints/8", partial)
    assert newest(saved, state_after(0))[0] == 8
    assert not partial.exists()
    assert f"{partial} was cut short while it was written" in caplog.text


def test_another_state_is_a_clear_error_and_moves_nothing(saved):
    before = sorted(saved.rglob("*"))
    like = state_after(0)._replace(died={"extra": jnp.zeros(3)}, step=jnp.zeros(2, jnp.int32))
    message = (
        r"holds the state of the run.*died is int32 \[3\] there and absent now; died/extra is "
        r"absent there and float32 \[3\] now; step is int32 \[\] there and int32 \[2\] now\. It "
        "is whole and stays where it is"
    )
    with pytest.raises(UsageError, match=message):
        newest(saved, like)
    assert sorted(saved.rglob("*")) == before


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied"), ValueError("UNAVAILABLE: the server is away")],
)
def test_what_cannot_be_read_now_is_not_taken_for_damaged(saved, monkeypatch, error):
    """As root every file can be read, so the refusal is played."""

    def refused(self, *arguments, **options):
        raise error

    monkeypatch.setattr(pathlib.Path, "read_text", refused)
    with pytest.raises(StorageError, match=r"(denied|is away)\. It may be sound and stays"):
        Checkpoints(saved)
    assert steps_in(saved / "checkpoints") == [6, 8]


def test_a_checkpoint_of_eight_devices_is_read_by_one_and_by_two(saved):
    """And the other way round; the state may be split over them, or not."""
    for before, after in itertools.pairwise((8, 1, 2)):
        for spec in (P(), P("data")):
            shutil.rmtree(saved)
            state = state_after(8)
            on = [NamedSharding(mesh_of(count), spec) for count in (before, after)]
            first, second = (
                state._replace(params=jax.device_put(state.params["bias"], sharding))
                for sharding in on
            )
            with Checkpoints(saved) as checkpoints:
                checkpoints.save(first, 8)
            with Checkpoints(saved) as checkpoints:
                found = checkpoints.restore(second)
            assert found.params.sharding == on[1]
            assert equal(jax.device_get(found), jax.device_get(first))


def mesh_of(count):
    devices = jax.devices()[:count]
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def test_digests_are_sums_of_words_with_odd_weights():
    """[1, 2, 3] -> 1 + 2 + 3 and 1 * 1 + 3 * 2 + 5 * 3; -1 is the word 2^32 - 1."""
    tree = {"a": jnp.array([1, 2, 3], jnp.int32), "b": jnp.int32(-1), "c": jnp.zeros((0, 2))}
    expected = [[6, 22], [2**32 - 1, 2**32 - 1], [0, 0]]
    np.testing.assert_array_equal(device_digests(tree), np.array(expected, np.uint32))
    np.testing.assert_array_equal(host_digests(jax.device_get(tree)), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "uint8", "bool"])
def test_device_and_host_agree_and_see_every_bit(dtype):
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, 3 * 8 * 4, dtype=np.uint8)
    array = (raw % 2 == 0) if dtype == "bool" else raw.view(jnp.dtype(dtype)).reshape(3, 8, -1)
    spec = P(None, "data") if array.ndim == 3 else P("data")
    split = NamedSharding(mesh_of(8), spec)
    good = host_digests({"a": array})
    np.testing.assert_array_equal(device_digests({"a": jax.device_put(array, split)}), good)
    words = array.view(np.uint8).reshape(-1)
    for place in range(len(words)):
        changed = words.copy()
        changed[place] ^= 1 if dtype == "bool" else 1 << (place % 8)
        assert (host_digests({"a": changed.view(array.dtype)}) != good).any()


def test_names_are_paths_in_order():
    tree = {"b": [np.zeros(1), np.ones(1)], "a": {"c": np.zeros(2)}}
    assert list(leaf_names(tree)) == ["a/c", "b/0", "b/1"]
