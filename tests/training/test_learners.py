"""Methods that train something else than the config's student: "fconcat" and "concat"."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from aft_jax.config import resolve
from aft_jax.config.defaults import base_config, teacher
from aft_jax.data import load_split
from aft_jax.errors import ConfigError, StoreError, UsageError
from aft_jax.features import extract, open_store, store_path, write_store
from aft_jax.features.describe import describe
from aft_jax.students import load_student
from aft_jax.training import build, evaluate, train
from aft_jax.training.experiment import initial_state
from aft_jax.training.fconcat import _moments
from aft_jax.training.run_data import load_data

ROWS = 48
WIDTHS = {"deep": 3, "wide": 5}


def base(root: pathlib.Path) -> Any:
    raw: Any = base_config()
    raw.data.update({"name": "some", "source": "arrays", "path": str(root / "set.npz")})
    raw.student.options = {"widths": (4,), "strides": (2,)}
    raw.features.update({"directory": str(root / "features"), "residency": "host"})
    raw.update({"beta": 0.0, "batch_size": 16, "steps": 2, "devices": 1})
    raw.update({"log_every": 2, "eval_every": 2, "checkpoint_every": 2})
    return raw


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A config of "fconcat" with stores of two teachers that overlap in what they tell."""
    root = tmp_path_factory.mktemp("probed")
    content = {}
    for number, split in enumerate(("train", "tune", "test")):
        values = np.random.default_rng(number).normal(size=(ROWS, 2, 2, 1)).astype(np.float32)
        content |= {f"{split}/array": values, f"{split}/label": np.arange(ROWS) % 3}
        content[f"{split}/id"] = np.array([f"{split}{row}" for row in range(ROWS)])
    np.savez(root / "set.npz", **content)
    raw = base(root)
    for name in WIDTHS:
        raw.teachers[name] = teacher("imported", str(root / "nowhere.pt"))
    raw.update({"method": "fconcat", "batch_size": ROWS, "steps": 1500})
    raw.optim.learning_rate = 0.1
    raw.update({"log_every": 500, "eval_every": 500, "checkpoint_every": 500})
    config = resolve(raw)
    for number, (name, width) in enumerate(WIDTHS.items()):
        for split in ("train", "tune", "test"):
            write_features(config, name, split, width, number)
    return config


def write_features(config, name, split, width, number):
    dataset = load_split(config.data, split)
    rng = np.random.default_rng([number, len(split)])
    centres = np.random.default_rng(number).normal(size=(3, width))
    rows = 3 + 2 * (centres[dataset.labels] / 4 + rng.normal(size=(len(dataset), width)))
    write_store(
        store_path(config, name, dataset.split),
        dataset.ids,
        [rows.astype(np.float32)],
        width,
        teacher_parameters=0,
        teacher_id="t",
        teacher_revision="",
        teacher_weights_sha256="",
        preprocessing="",
        pooling="",
        **describe(dataset),
    )


def stored(config, split):
    dataset = dict(zip(("train", "tune"), load_data(config)[:2], strict=True))[split].dataset
    parts = [open_store(store_path(config, name, split), {}) for name in sorted(WIDTHS)]
    rows = np.concatenate([part.rows().gather(part.places(dataset.ids)) for part in parts], axis=1)
    return rows.astype(np.float64), dataset.labels


@pytest.mark.slow
def test_fconcat_converges_to_logistic_regression_on_standardised_features(probed, tmp_path):
    result = train(probed, tmp_path)
    rows, labels = stored(probed, "train")
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    reference = LogisticRegression(C=np.inf, max_iter=5000, tol=1e-10)
    reference.fit((rows - mean) / scale, labels)
    saved = load_student(tmp_path)
    assert saved.name == "fconcat"
    for name, columns in (("deep", slice(0, 3)), ("wide", slice(3, 8))):
        found = saved.variables["statistics"][name]
        np.testing.assert_allclose(found["mean"], mean[columns], rtol=1e-5)
        np.testing.assert_allclose(found["scale"], scale[columns], rtol=1e-5)
    # Softmax leaves a constant free in every row of the weights.
    kernel = saved.variables["params"]["head"]["kernel"]
    kernel = kernel - kernel.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(kernel.T, reference.coef_, atol=0.02 * np.abs(reference.coef_).max())
    others, theirs = stored(probed, "tune")
    logs = reference.predict_log_proba((others - mean) / scale)
    assert result["tune"]["loss"] == pytest.approx(
        -np.mean(logs[np.arange(ROWS), theirs]), rel=0.02
    )
    values = evaluate(tmp_path, "test")
    assert set(values) == {"loss", "accuracy"}
    assert result["parameters"] == 8 * 3 + 3
    assert evaluate(tmp_path, "tune")["loss"] == pytest.approx(result["tune"]["loss"], rel=1e-6)


def test_fconcat_of_two_modalities_reads_their_tensor_product(probed):
    config = dataclasses.replace(probed, method_options={"combine": "product"}, steps=2)
    experiment = build(config)
    state = initial_state(experiment, 0)
    head = state.variables["params"]["head"]
    assert head["kernel"].shape == (15, 3)
    head = {"kernel": jnp.ones_like(head["kernel"]), "bias": head["bias"]}
    variables = {**state.variables, "params": {"head": head}}
    inputs = jax.tree.map(jnp.asarray, experiment.train.inputs(np.arange(4)))
    logits = experiment.student.apply(variables, inputs, False, {})[0].logits
    rows, _ = stored(probed, "train")
    rows = ((rows - rows.mean(axis=0)) / rows.std(axis=0))[:4]
    expected = rows[:, :3].sum(axis=1) * rows[:, 3:].sum(axis=1)  # sum of all products
    np.testing.assert_allclose(logits[:, 0], expected, rtol=1e-4)


def test_fconcat_without_stores_of_test_is_refused_when_it_is_built(probed, tmp_path):
    features = dataclasses.replace(probed.features, directory=str(tmp_path))
    config = dataclasses.replace(probed, features=features)
    for number, (name, width) in enumerate(WIDTHS.items()):
        for split in ("train", "tune"):
            write_features(config, name, split, width, number)
    with pytest.raises(
        StoreError, match=r"config\.features\.splits to \(\"train\", \"tune\", \"test"
    ):
        build(config)


def test_fconcat_takes_an_example_without_features_for_the_mean(probed, tmp_path, caplog):
    """A store of test that has half of the examples."""
    features = dataclasses.replace(probed.features, directory=str(tmp_path), missing="skip")
    config = dataclasses.replace(probed, features=features, steps=2, log_every=1)
    config = dataclasses.replace(config, eval_every=2, checkpoint_every=2)
    for number, (name, width) in enumerate(WIDTHS.items()):
        for split in ("train", "tune", "test"):
            write_features(config, name, split, width, number)
    arrays = dict(np.load(config.data.path))
    arrays["tune/id"] = np.char.add(arrays["tune/id"], np.where(np.arange(ROWS) < 10, "x", ""))
    np.savez(tmp_path / "set.npz", **arrays)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, path=str(tmp_path / "set.npz"))
    )
    experiment = build(config)
    assert "10 of the 48 examples of tune have no features" in caplog.text
    inputs = jax.tree.map(jnp.asarray, experiment.tune.inputs(np.arange(ROWS)))
    variables = initial_state(experiment, 0).variables
    head = {"kernel": jnp.ones((8, 3)), "bias": jnp.array([1.0, 2.0, 3.0])}
    variables = {**variables, "params": {"head": head}}
    logits = experiment.student.apply(variables, inputs, False, {})[0].logits
    np.testing.assert_array_equal(logits[:10], np.tile([1.0, 2.0, 3.0], (10, 1)))
    assert (np.abs(logits[10:] - np.array([[1.0, 2.0, 3.0]])) > 1e-3).all()


def test_a_constant_feature_stays_finite():
    constant = np.full((10, 2), 0.1, np.float32)
    constant[:, 1] = np.arange(10)
    constant = np.concatenate([constant, np.zeros((10, 1), np.float32)], axis=1)
    constant[0, 2] = 1e-40
    found = _moments(constant)
    assert found["scale"][[0, 2]].tolist() == [1, 1]
    assert found["scale"][1] == pytest.approx(np.std(np.arange(10)))


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Images in three splits, and two finished runs that read them at 6 and at 10 pixels."""
    root = tmp_path_factory.mktemp("runs")
    content = {}
    for number, split in enumerate(("train", "tune", "test")):
        rng = np.random.default_rng(number)
        images = rng.integers(0, 256, (ROWS, 12, 12, 3)).astype(np.uint8)
        content |= {f"{split}/image": images, f"{split}/label": np.arange(ROWS) % 3}
        content[f"{split}/id"] = np.array([f"{split}{row}" for row in range(ROWS)])
    np.savez(root / "set.npz", **content)
    raw = base(root)
    raw.inputs.update({"kind": "image", "image_size": 6})
    with jax.numpy_dtype_promotion("standard"):
        train(resolve(raw), root / "small")
        raw.inputs.update({"image_size": 10, "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)})
        raw.student.options = {"widths": (8,), "strides": (2,)}
        train(resolve(raw), root / "large")
    raw.student.options = {"widths": (4,), "strides": (2,)}
    raw.teachers = {
        "head": teacher("flax", str(root / "small")),  # no name that a teacher may not have
        "large": teacher("flax", str(root / "large")),
    }
    raw.method = "concat"
    return resolve(raw)


@pytest.mark.slow
def test_concat_trains_the_teachers_and_is_evaluated_without_them(two_runs, tmp_path, monkeypatch):
    experiment = build(two_runs)
    inputs = jax.tree.map(jnp.asarray, experiment.train.inputs(np.arange(3)))
    assert {name: part.shape for name, part in inputs.items()} == {
        "head": (3, 6, 6, 3),
        "large": (3, 10, 10, 3),
    }
    start = initial_state(experiment, 0)
    features = experiment.student.apply(start.variables, inputs, False, {})[0].features
    expected = [single(two_runs, name, np.arange(3)) for name in ("head", "large")]
    np.testing.assert_allclose(features, np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-6)
    result = train(two_runs, tmp_path / "run")
    saved = load_student(tmp_path / "run")
    assert saved.name == "concat"
    # (8 + 4) features for 3 classes, and the bodies without their heads
    assert result["parameters"] == 12 * 3 + 3 + sum(
        leaf.size
        for name in ("head", "large")
        for key, part in load_student(source(two_runs, name)).variables["params"].items()
        if key != "head"
        for leaf in jax.tree.leaves(part)
    )
    moved = saved.variables["params"]["bodies"]["large"]["Conv_0"]["kernel"]
    began = load_student(source(two_runs, "large")).variables["params"]["Conv_0"]["kernel"]
    assert not np.array_equal(moved, began)
    monkeypatch.setattr("aft_jax.training.concat.load_student", None)
    again = evaluate(tmp_path / "run", "tune")
    assert again["loss"] == pytest.approx(result["tune"]["loss"], rel=1e-6)


def source(config, name):
    return pathlib.Path(config.teachers[name].source)


def single(config, name, rows):
    """The features that one of the runs itself has of rows of train."""
    alone = dataclasses.replace(config, method="stl", teachers={})
    saved = load_student(source(config, name))
    options = {key: value for key, value in saved.options.items() if key != "dtype"}
    student = dataclasses.replace(
        alone.student, init_from=str(source(config, name)), options=options
    )
    experiment = build(dataclasses.replace(alone, student=student, inputs=saved.inputs))
    inputs = jnp.asarray(experiment.train.inputs(rows))
    return experiment.student.apply(saved.variables, inputs, False, {})[0].features


def test_concat_of_another_kind_of_teacher_is_refused(two_runs):
    other = dataclasses.replace(two_runs.teachers["large"], kind="timm", source="vit")
    teachers = {**two_runs.teachers, "large": other}
    with pytest.raises(ConfigError, match=r"config\.teachers\.large\.kind is 'timm'"):
        build(dataclasses.replace(two_runs, teachers=teachers))
    with pytest.raises(ConfigError, match=r"config\.teachers is empty"):
        build(dataclasses.replace(two_runs, teachers={}))
    gone = dataclasses.replace(two_runs.teachers["large"], source="nowhere")
    with pytest.raises(UsageError, match="nowhere has none"):
        build(dataclasses.replace(two_runs, teachers={"large": gone}))


@pytest.mark.parametrize("first", ["concat", "fconcat"])
def test_data_that_a_learner_was_built_with_serve_another_method(two_runs, tmp_path, first):
    splits = ("train", "tune", "test")
    features = dataclasses.replace(
        two_runs.features, directory=str(tmp_path / "features"), splits=splits
    )
    config = dataclasses.replace(two_runs, features=features, beta=1.0)
    extract(config)
    learner = build(dataclasses.replace(config, method=first))
    other = build(dataclasses.replace(config, method="aft"), learner.data)
    assert other.train is learner.data.train
    assert other.train.inputs(np.arange(2)).shape == (2, 10, 10, 3)
    assert other.name == "small_cnn"
    assert learner.name == first
