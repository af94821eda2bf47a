"""Several steps in one call: the same run, wherever its inputs and features are kept."""

import dataclasses

import jax
import numpy as np
import pytest

from aft_jax.data import OfficialOrder, RowOrder
from aft_jax.errors import ConfigError
from aft_jax.students import load_student
from aft_jax.training import build, train
from aft_jax.training.batches import train_batch
from aft_jax.training.feed import plan_calls
from aft_jax.training.metrics import read_metrics
from aft_jax.training.sharding import row_sharded


def lines(directory):
    return [
        {name: value for name, value in line.items() if name != "steps_per_second"}
        for line in read_metrics(directory)
    ]


def in_calls(config, steps, inputs, features):
    residency = dataclasses.replace(config.features, residency=features)
    return dataclasses.replace(
        config, steps_per_call=steps, inputs_residency=inputs, features=residency
    )


def assert_same_run(one, other, rtol=1e-5):
    for a, b in zip(
        jax.tree.leaves(load_student(one).variables),
        jax.tree.leaves(load_student(other).variables),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)
    for a, b in zip(lines(one), lines(other), strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            assert b[name] == (value if name in ("step", "split") else pytest.approx(value, 1e-4))


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    """A run of eight steps, one a call, everything loaded on the host."""
    from tests.training.conftest import stage

    config = stage("student", prepared, batch_size=40, steps=8, devices=1)
    directory = tmp_path_factory.mktemp("calls") / "whole"
    train(in_calls(config, 1, "host", "host"), directory)
    return directory


@pytest.mark.parametrize(
    ("steps", "inputs", "features"),
    [(1, "device", "device"), (2, "host", "stream"), (3, "device", "host"), (50, "auto", "auto")],
)
def test_calls_of_several_steps_are_the_same_run(config, whole, tmp_path, steps, inputs, features):
    train(in_calls(config, steps, inputs, features), tmp_path)
    assert_same_run(whole, tmp_path)


def test_a_call_across_logged_intervals_writes_a_line_for_each(config, tmp_path):
    rare = dataclasses.replace(config, log_every=3, eval_every=6, checkpoint_every=6)
    train(dataclasses.replace(rare, steps_per_call=1), tmp_path / "one")
    train(dataclasses.replace(rare, steps_per_call=5), tmp_path / "five")
    kept = [line["step"] for line in lines(tmp_path / "five") if line["split"] == "train"]
    assert kept == [3, 6, 8]
    assert_same_run(tmp_path / "one", tmp_path / "five")


def test_what_a_feed_gathers_is_the_batch_that_the_host_would_make(config):
    experiment = build(in_calls(config, 1, "device", "device"))
    order, rows = experiment.protocol.order(5), row_sharded(experiment.mesh)
    picks = experiment.feed.load(order, range(2, 4))
    assert all(leaf.ndim <= 2 for leaf in jax.tree.leaves(picks)), "numbers of rows alone"
    for place, step in enumerate((2, 3)):
        picked = jax.tree.map(lambda leaf, at=place: leaf[at], picks)
        batch = jax.jit(experiment.feed.gather)(experiment.feed.tables, picked)
        expected = train_batch(experiment.train, experiment.features, order, step, 0, rows)
        assert jax.tree.structure(batch) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_plan_has_every_step_once_and_stops_where_the_state_is_looked_at():
    order = RowOrder(100, 10, 0)
    calls = plan_calls(3, 40, 10, (15, 25), order.size)
    assert [(call.start, call.stop) for call in calls] == [
        *((3, 13), (13, 15), (15, 25), (25, 30), (30, 40)),
    ]


def test_a_ragged_batch_is_a_call_of_its_own():
    order = OfficialOrder(25, 10, 0)
    assert [order.size(step) for step in range(6)] == [10, 10, 5, 10, 10, 5]
    assert [len(order.batch(step)) for step in range(6)] == [10, 10, 5, 10, 10, 5]
    calls = plan_calls(0, 6, 50, (100,), order.size)
    assert [(call.start, call.stop) for call in calls] == [(0, 2), (2, 3), (3, 5), (5, 6)]


def test_inputs_that_differ_from_step_to_step_do_not_stay_on_the_device(config):
    views = dataclasses.replace(config, method="stl", views=-1, inputs_residency="device")
    with pytest.raises(ConfigError, match="keeps one version of every example"):
        build(views)


def test_auto_leaves_examples_that_are_never_seen_on_the_host(config):
    few = dataclasses.replace(config, steps=1)
    assert build(few).feed.tables["inputs"] == ()
    assert jax.tree.leaves(build(config).feed.tables["inputs"])
