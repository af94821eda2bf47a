"""Every method of the table: two steps with finite gradients, from the command line's own path."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.errors import ConfigError, StoreError
from aft_jax.features import extract
from aft_jax.training import build, train
from aft_jax.training.batches import train_batch
from aft_jax.training.experiment import initial_state
from aft_jax.training.methods import METHODS, find_method
from aft_jax.training.sharding import row_sharded
from tests.training.conftest import stage
from tests.training.test_resume import assert_identical, final_state

QUICK = {"ft": {"epochs": 3}}


@pytest.fixture(scope="module")
def stored(prepared):
    """The stores of the test split too, which "fconcat" reads."""
    with jax.numpy_dtype_promotion("standard"):
        config = stage("student", prepared, batch_size=40, steps=2, devices=1)
        splits = dataclasses.replace(config.features, splits=("train", "tune", "test"))
        extract(dataclasses.replace(config, features=splits))
    return config


def with_method(config, name, **options):
    options = options or QUICK.get(name, {})
    return dataclasses.replace(config, method=name, method_options=options)


def two_steps(experiment, config):
    """The gradient norms and losses of two steps."""
    state, rows = initial_state(experiment, config.seed), row_sharded(experiment.mesh)
    order, found = experiment.protocol.order(config.seed), []
    for step in range(2):
        batch = train_batch(experiment.train, experiment.features, order, step, 0, rows)
        beta, root = jnp.float32(config.beta), jax.random.key(config.seed)
        state, metrics = experiment.train_step(state, batch, beta, root)
        found.append([float(metrics[name][0]) for name in ("gradient_norm", "loss")])
    return np.array(found), state


@pytest.mark.parametrize("name", METHODS)
def test_two_steps_of_every_method(stored, name):
    config = with_method(stored, name)
    experiment = build(config)
    found, state = two_steps(experiment, config)
    assert np.isfinite(found).all()
    assert (found[:, 0] > 0).all()
    for leaf in jax.tree.leaves((state.variables, state.regularizer)):
        assert np.isfinite(leaf).all()
    assert experiment.has_beta == (name not in ("stl", "fconcat", "concat"))
    assert find_method(config).has_beta == experiment.has_beta


@pytest.mark.parametrize("name", ["ft", "btune", "kd_logits"])
def test_the_term_of_a_fitted_method_reaches_the_student(stored, name):
    config = with_method(stored, name)
    experiment = build(config)
    without, _ = two_steps(experiment, dataclasses.replace(config, beta=0.0))
    found, _ = two_steps(experiment, config)
    assert abs(found[0, 0] - without[0, 0]) > 1e-4


@pytest.mark.parametrize("name", ["ft", "btune", "fconcat", "concat"])
def test_eight_devices_step_like_one(stored, name):
    config = with_method(stored, name)
    one, state = two_steps(build(config), config)
    config = dataclasses.replace(config, devices=8)
    eight, other = two_steps(build(config), config)
    np.testing.assert_allclose(eight, one, rtol=1e-4)
    for a, b in zip(
        jax.tree.leaves(state.variables), jax.tree.leaves(other.variables), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ft", "kd_logits"])
def test_a_resumed_run_of_a_fitted_method_ends_like_an_uninterrupted_one(stored, tmp_path, name):
    config = with_method(dataclasses.replace(stored, steps=4), name)
    train(config, tmp_path / "whole")
    shorter = tmp_path / "killed"
    train(config, shorter)
    # Back to the checkpoint before the last, as a kill leaves it; the fit is made anew.
    for path in ("result.json", "student/student.json"):
        (shorter / path).unlink()
    steps = sorted((shorter / "checkpoints").iterdir(), key=lambda path: int(path.name))
    assert [path.name for path in steps] == ["2", "4"]
    steps[-1].rename(tmp_path / "gone")
    train(config, shorter)
    assert_identical(
        final_state(config, tmp_path / "whole"), final_state(config, tmp_path / "killed")
    )
    weights = "student/model.safetensors"
    assert (tmp_path / "whole" / weights).read_bytes() == (shorter / weights).read_bytes()


def test_an_unknown_method_lists_all(config):
    with pytest.raises(
        ConfigError, match=r"config\.method is one of stl, aft, .*ft, btune, kd_logits, fconcat, co"
    ):
        build(dataclasses.replace(config, method="aftt"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ft", {"epochs": 0}, "epochs is a whole number, at least 1; got 0"),
        ("ft", {"width": -1}, "width is a whole number, at least 0; got -1"),
        ("btune", {"temperature": 0.0}, r"temperature is a finite number above 0; got 0\.0"),
        ("kd_logits", {"temperature": -1.0}, r"temperature is a finite number above 0; got -1\.0"),
        ("kd_logits", {"heat": 1.0}, "unexpected keyword argument 'heat'"),
        ("fconcat", {"combine": "sum"}, r"combine is one of .*concat.* got 'sum'"),
        ("concat", {"width": 3}, "unexpected keyword argument 'width'"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_loaded(
    stored, monkeypatch, name, options, message
):
    monkeypatch.setattr("aft_jax.training.experiment.load_data", None)
    with pytest.raises(ConfigError, match=message):
        build(with_method(stored, name, **options))


@pytest.mark.parametrize("name", ["ft", "kd_logits"])
def test_a_missing_tune_store_is_found_before_training(stored, tmp_path, name):
    directory = tmp_path / "features"
    features = dataclasses.replace(stored.features, directory=str(directory), splits=("train",))
    config = dataclasses.replace(with_method(stored, name), features=features)
    extract(config)
    with pytest.raises(StoreError, match="digits-tune"):
        build(config)


def test_a_map_too_large_to_learn_is_refused_when_the_experiment_is_built(stored, monkeypatch):
    monkeypatch.setattr("aft_jax.losses.map_parameters.MAP_ENTRIES", 3)
    with pytest.raises(ConfigError, match=r"config\.method fits .*'kd' would need"):
        build(with_method(stored, "kd"))
