"""A checkpoint that is no longer what was saved is named, put aside, and the one before is used."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.errors import StorageError, UsageError
from aft_jax.training import train
from aft_jax.training.checkpoint import Checkpoints
from aft_jax.training.digest import device_digests, host_digests, leaf_names
from aft_jax.training.experiment import build, initial_state
from aft_jax.training.saved import DAMAGED, steps_in
from tests.training.conftest import stage


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    """A finished run of eight steps, its config, and its states after six and eight."""
    config = stage("student", prepared, batch_size=40, steps=8, devices=1)
    directory = tmp_path_factory.mktemp("whole")
    train(config, directory)
    like = initial_state(build(config), config.seed)
    states = {}
    for step in (6, 8):
        copy = tmp_path_factory.mktemp("one") / "run"
        shutil.copytree(directory, copy)
        for other in {6, 8} - {step}:
            shutil.rmtree(copy / "checkpoints" / str(other))
        with Checkpoints(copy) as checkpoints:
            states[step] = jax.device_get(checkpoints.restore(like))
    return config, directory, like, states


@pytest.fixture
def run(whole, tmp_path):
    """A copy of that run, to be damaged."""
    shutil.copytree(whole[1], tmp_path / "run")
    return tmp_path / "run"


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


def biggest(directory):
    files = [path for path in directory.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def unfinished(run):
    (run / "result.json").unlink()
    return run


@pytest.mark.parametrize("damage", [flip, truncate, delete])
def test_no_damaged_file_gives_another_state(whole, run, damage):
    """Each file of the newest checkpoint in turn: what is restored was saved, at 8 or before."""
    _, source, like, states = whole
    newest = run / "checkpoints/8"
    names = sorted(path.relative_to(newest) for path in newest.rglob("*") if path.is_file())
    put_aside = 0
    for name in names:
        shutil.rmtree(run)
        shutil.copytree(source, run)
        damage(newest / name)
        with Checkpoints(run) as checkpoints:
            state = jax.device_get(checkpoints.restore(like))
            step = checkpoints.latest
        assert equal(state, states[step]), name
        assert (run / DAMAGED / "8").exists() == (step == 6), name
        put_aside += step == 6
    assert put_aside >= 3  # the tree's metadata, the database's, and the numbers themselves


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_bit_among_the_numbers_is_found(whole, run, caplog, place):
    flip(biggest(run / "checkpoints/8"), place)
    with Checkpoints(run) as checkpoints:
        assert checkpoints.latest == 6
        assert equal(jax.device_get(checkpoints.restore(whole[2])), whole[3][6])
    assert "the checkpoint of step 8 in" in caplog.text
    assert f"It is kept in {run / DAMAGED / '8'}. The one of step 6 is looked at" in caplog.text


def empty(newest):
    shutil.rmtree(newest)
    newest.mkdir()


def commit_marks_only(newest):
    for path in [path for path in newest.rglob("*") if path.is_file()]:
        if path.name != "commit_success.txt":
            path.unlink()


def numbers_of_another_step(newest):
    shutil.copy(biggest(newest.parent / "6"), biggest(newest))


@pytest.mark.parametrize("damage", [empty, commit_marks_only, numbers_of_another_step])
def test_training_goes_on_from_the_one_before(whole, run, caplog, damage):
    damage(run / "checkpoints/8")
    train(whole[0], unfinished(run))
    with Checkpoints(run) as checkpoints:
        assert equal(jax.device_get(checkpoints.restore(whole[2])), whole[3][8])
    assert "step 8" in caplog.text
    assert steps_in(run / DAMAGED) == [8]


def test_training_starts_again_where_none_is_left(whole, run, caplog):
    for step in (6, 8):
        flip(biggest(run / f"checkpoints/{step}"))
    train(whole[0], unfinished(run))
    with Checkpoints(run) as checkpoints:
        assert equal(jax.device_get(checkpoints.restore(whole[2])), whole[3][8])
    assert "None is left: training starts again from step 0." in caplog.text
    assert steps_in(run / DAMAGED) == [6, 8]


def test_the_same_step_damaged_twice_is_kept_twice(run):
    for _ in range(2):
        shutil.copytree(run / "checkpoints/6", run / "checkpoints/9")
        truncate(biggest(run / "checkpoints/9"))
        Checkpoints(run).__exit__(None, None, None)
    assert {path.name for path in (run / DAMAGED).iterdir()} == {"9", "9-2"}


def test_a_save_that_was_cut_short_is_removed_by_name(run, caplog):
    partial = run / "checkpoints/10.orbax-checkpoint-tmp"
    shutil.copytree(run / "checkpoints/8", partial)
    with Checkpoints(run) as checkpoints:
        assert checkpoints.latest == 8
    assert not partial.exists()
    assert f"{partial} was cut short while it was written" in caplog.text


def test_another_state_is_a_clear_error_and_moves_nothing(whole, run):
    config, _, like, _ = whole
    before = sorted(path.name for path in run.rglob("*"))
    wider = like._replace(regularizer={"extra": jnp.zeros(3)}, step=jnp.zeros(2, jnp.int32))
    with (
        pytest.raises(
            UsageError,
            match=r"holds the state of the run.*regularizer/extra is absent there and float32 \[3\]"
            r" now.*step is int32 \[\] there and int32 \[2\] now.*stays where it is",
        ),
        Checkpoints(run) as checkpoints,
    ):
        checkpoints.restore(wider)
    assert sorted(path.name for path in run.rglob("*")) == before


def test_what_cannot_be_read_now_is_not_taken_for_damaged(run, monkeypatch):
    """As root every file can be read, so the refusal is played."""
    import pathlib

    original = pathlib.Path.open

    def refused(self, *arguments, **options):
        if "checkpoints/8" in str(self):
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", refused)
        with pytest.raises(StorageError, match="Permission denied.*It may be sound and stays"):
            Checkpoints(run)
    assert steps_in(run / "checkpoints") == [6, 8]


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
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(
        mesh, jax.sharding.PartitionSpec(*((None, "data") if array.ndim == 3 else ("data",)))
    )
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
