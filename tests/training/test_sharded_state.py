"""Parameters and optimizer split over the devices: the same run, in less memory."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from aft_jax.students import load_student
from aft_jax.training import build, evaluate, experiment, train
from aft_jax.training.checkpoint import Checkpoints
from aft_jax.training.experiment import initial_state
from aft_jax.training.sharding import data_mesh, gathered, state_shardings


def bytes_on(device, tree):
    return sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(tree)
        for shard in leaf.addressable_shards
        if shard.device == device
    )


@pytest.fixture
def sharded(config):
    """A wider student on eight devices, split."""
    student = dataclasses.replace(
        config.student, init_from="", options={"widths": (32, 64), "strides": (2, 2)}
    )
    return dataclasses.replace(config, devices=8, state_sharding="sharded", student=student)


def test_a_split_state_trains_the_student_of_a_whole_one(sharded, tmp_path):
    train(sharded, tmp_path / "sharded")
    for devices in (1, 8):
        whole = dataclasses.replace(sharded, devices=devices, state_sharding="replicated")
        train(whole, tmp_path / f"whole{devices}")
        for a, b in zip(
            jax.tree.leaves(load_student(tmp_path / "sharded").variables),
            jax.tree.leaves(load_student(tmp_path / f"whole{devices}").variables),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_each_device_holds_its_part_before_and_after_a_call(sharded):
    experiment = build(sharded)
    state = initial_state(experiment, seed=0)
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    device = experiment.mesh.devices[0]
    assert bytes_on(device, state) < whole / 8 * 1.2
    picks = experiment.feed.load(experiment.protocol.order(0), range(2))
    root = jax.random.key(0)
    state, _ = experiment.train_call(state, experiment.feed.tables, picks, jnp.float32(1), root)
    assert bytes_on(device, state) < whole / 8 * 1.2


def test_a_split_checkpoint_is_read_whole_and_the_other_way_round(sharded, tmp_path):
    whole = dataclasses.replace(sharded, devices=1, state_sharding="replicated")
    for first, second in ((sharded, whole), (whole, sharded)):
        state = initial_state(build(first), seed=1)
        directory = tmp_path / first.state_sharding
        with Checkpoints(directory) as checkpoints:
            checkpoints.save(state, 3)
        like = initial_state(build(second), seed=2)
        with Checkpoints(directory) as checkpoints:
            found = checkpoints.restore(like)
        for a, b, c in zip(*map(jax.tree.leaves, (found, state, like)), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.sharding == c.sharding


def test_arrays_are_cut_along_their_longest_axis_that_comes_out_even():
    mesh = data_mesh(8, 8)
    shapes = {"wide": (3, 16, 64), "odd": (7, 24), "none": (3, 5), "scalar": ()}
    tree = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    specs = {name: found.spec for name, found in state_shardings(mesh, tree, "sharded").items()}
    expected = {"wide": P(None, None, "data"), "odd": P(None, "data"), "none": P(), "scalar": P()}
    assert specs == expected
    whole = state_shardings(mesh, tree, "replicated")
    assert all(found.spec == P() for found in whole.values())


def test_gathering_compiles_once(sharded, caplog):
    state = initial_state(build(sharded), seed=0)
    mesh = data_mesh(8, 8)
    gathered(state.variables, mesh)
    with jax.log_compiles(True), caplog.at_level(logging.WARNING, "jax"):
        whole = gathered(state.variables, mesh)
    assert "Finished XLA compilation" not in caplog.text
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(whole))


def test_a_run_of_batches_that_eight_devices_do_not_divide_is_evaluated_on_eight(config, tmp_path):
    odd = dataclasses.replace(config, batch_size=36, devices=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "data_mesh", lambda *sizes: data_mesh(1, 36))
        train(odd, tmp_path)
    values = evaluate(tmp_path, "tune")
    correct = values["accuracy"] * len(build(config).tune.dataset)
    assert correct == pytest.approx(round(correct)), "each example counts once"
