"""What is fitted before training: to which rows, and with which result."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.config import resolve
from aft_jax.config.defaults import base_config, teacher
from aft_jax.errors import ConfigError, DataError, NonFiniteError, StoreError
from aft_jax.features import extract, open_store, store_path
from aft_jax.training import autoencoder, build
from aft_jax.training.autoencoder import encode, fit_encoder
from aft_jax.training.evidence import Evidence, Rows
from aft_jax.training.experiment import initial_state
from aft_jax.training.fitted import FITTED, btune, ft, kd_logits
from aft_jax.training.run_data import load_data
from aft_jax.types import FeatureSpec

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "official_float64.npz"


def low_rank(rows: int, width: int, rank: int, seed: int) -> np.ndarray:
    """Rows of one `rank`-dimensional linear space, unit variance."""
    basis = np.random.default_rng(5).normal(size=(rank, width)) / np.sqrt(rank)
    return (np.random.default_rng(seed).normal(size=(rows, rank)) @ basis).astype(np.float32)


def evidence_of(train, labels, tune, tune_labels, classes, student=None) -> Evidence:
    return Evidence(
        train=Rows(train, labels),
        tune=lambda: Rows(tune, tune_labels),
        num_classes=classes,
        student=lambda: np.asarray(student),
    )


def test_an_auto_encoder_reconstructs_rows_of_few_dimensions():
    train, tune = low_rank(200, 24, 3, 0), low_rank(100, 24, 3, 1)
    encoder = fit_encoder("t", train, tune, seed=0, epochs=300)
    assert encoder.error < 0.05 * encoder.mean_error
    code = np.asarray(encode(encoder, jnp.asarray(tune)))
    assert code.shape == (100, 16)
    assert (code >= 0).all()
    # The code keeps what the rows are: a linear map of it tells them.
    columns = np.concatenate([code, np.ones((100, 1))], axis=1)
    rest = tune - columns @ np.linalg.lstsq(columns, tune, rcond=None)[0]
    assert np.mean(np.square(rest)) < 0.05 * np.mean(np.square(tune))


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_code_grows_with_the_features(size):
    train, tune = low_rank(60, 6, 2, 0), low_rank(40, 6, 2, 1)
    fit = {"seed": 0, "epochs": 3}
    plain = encode(fit_encoder("t", train, tune, **fit), jnp.asarray(tune))
    scaled = fit_encoder("t", train * np.float32(size), tune * np.float32(size), **fit)
    found = encode(scaled, jnp.asarray(tune * np.float32(size)))
    np.testing.assert_allclose(found / size, plain, rtol=1e-3, atol=1e-5)


def test_it_stops_when_the_error_on_tune_no_longer_falls(monkeypatch):
    """What is learned of a few rows of noise is soon of no use to others."""
    monkeypatch.setattr(autoencoder, "LEAST_ROWS", 2)
    train, tune = low_rank(16, 20, 20, 0), low_rank(200, 20, 20, 1)
    steps = []
    monkeypatch.setattr(autoencoder, "_epoch", counted(autoencoder._epoch, steps))
    encoder = fit_encoder("t", train, tune, seed=0, epochs=500, patience=3)
    errors = [float(error) for error in steps]
    assert len(errors) < 500
    assert encoder.epochs == len(errors) - 3 == int(np.argmin(errors)) + 1
    assert encoder.error == min(errors)


def counted(function, found):
    def counting(*arguments):
        result = function(*arguments)
        found.append(result[2])
        return result

    return counting


@pytest.mark.parametrize(
    ("train", "tune"),
    [
        (low_rank(50, 1, 1, 0), low_rank(20, 1, 1, 1)),
        (low_rank(1, 3, 1, 0), low_rank(1, 3, 1, 1)),
        (np.zeros((20, 4), np.float32), np.zeros((10, 4), np.float32)),
        (np.full((20, 4), 7, np.float32), np.full((10, 4), 7, np.float32)),
    ],
    ids=["narrow", "one row", "zero", "constant"],
)
def test_degenerate_features_have_a_finite_code(train, tune):
    encoder = fit_encoder("t", train, tune, seed=0, epochs=20)
    code = encode(encoder, jnp.asarray(tune))
    assert np.isfinite(code).all()
    grads = jax.grad(lambda x: jnp.sum(encode(encoder, x)))(jnp.asarray(tune))
    np.testing.assert_array_equal(grads, 0)


def test_an_auto_encoder_of_one_number_is_better_than_its_mean():
    encoder = fit_encoder("t", low_rank(200, 1, 1, 0), low_rank(100, 1, 1, 1), seed=0)
    assert encoder.error < 0.05 * encoder.mean_error


def test_an_error_that_is_never_finite_is_refused():
    train = np.full((8, 2), np.nan, np.float32)
    with pytest.raises(NonFiniteError, match="an auto-encoder has a finite error on tune"):
        fit_encoder("t", train, train, seed=0, epochs=2)


@pytest.mark.usefixtures("x64")
def test_btune_fits_and_gives_the_published_values():
    golden = np.load(GOLDEN, allow_pickle=False)
    names, widths = ("a", "b"), golden["inputs/teacher_dims"]
    parts = np.split(golden["inputs/teacher"], [widths[0]], axis=1)
    teachers = dict(zip(names, parts, strict=True))
    student, labels = golden["inputs/student"], golden["inputs/labels"]
    evidence = evidence_of(teachers, labels, {}, labels[:0], 3, student)
    regularizer = btune()(evidence._replace(tune=None))  # which it never asks for
    features = {name: jnp.asarray(part) for name, part in teachers.items()}

    def loss(rows):
        return regularizer.apply({}, rows, features)[0]

    value, grad = jax.value_and_grad(loss)(jnp.asarray(student))
    np.testing.assert_allclose(value, golden["btune/loss"], rtol=1e-10)
    np.testing.assert_allclose(grad, golden["btune/grad_student"], rtol=1e-9, atol=1e-14)


def test_rows_without_label_are_left_out_of_fits_to_labels():
    rng = np.random.default_rng(0)
    labels = np.array([0, 1] * 10)
    rows = {"a": (labels[:, None] + rng.normal(size=(20, 4))).astype(np.float32)}
    student = rng.normal(size=(20, 3)).astype(np.float32)
    more = {"a": np.concatenate([rows["a"], np.full((5, 4), 50, np.float32)])}
    unlabelled = np.concatenate([labels, np.full(5, -1)])
    wider = np.concatenate([student, np.full((5, 3), 50, np.float32)])
    features = {"a": jnp.asarray(rows["a"])}
    logits = jnp.asarray(rng.normal(size=(20, 2)), jnp.float32)
    for fit in (btune(), kd_logits()):
        values = [
            fit(evidence_of(*given)).apply({}, jnp.asarray(student), features, logits=logits)[0]
            for given in (
                (rows, labels, rows, labels, 2, student),
                (more, unlabelled, more, unlabelled, 2, wider),
            )
        ]
        np.testing.assert_allclose(*values, rtol=1e-5)


def test_what_the_student_cannot_read_is_no_rule_of_the_fit():
    rows, labels = {"a": np.ones((4, 2), np.float32)}, np.array([0, 1, 0, 1])

    def broken():
        raise DataError("image x.jpg is broken")

    evidence = evidence_of(rows, labels, rows, labels, 2)._replace(student=broken)
    with pytest.raises(DataError, match=r"^image x\.jpg is broken$"):
        btune()(evidence)


@pytest.mark.parametrize("fit", [btune(), kd_logits()], ids=["btune", "kd_logits"])
def test_a_fit_to_labels_needs_two_classes(fit):
    rows, labels = {"a": np.ones((4, 2), np.float32)}, np.full(4, -1)
    with pytest.raises(ConfigError, match=r"is fitted to labelled rows: .* at least two classes"):
        fit(evidence_of(rows, labels, rows, labels, 2, rows["a"]))


def test_the_probe_of_kd_logits_tells_classes_apart():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    rows = {"a": np.eye(3, dtype=np.float32)[labels] * 4 + rng.normal(size=(60, 3)) / 4}
    rows = {"a": rows["a"].astype(np.float32)}
    regularizer = kd_logits(temperature=1.0)(evidence_of(rows, labels, rows, labels, 3))
    right = 8 * jax.nn.one_hot(labels, 3, dtype=jnp.float32)
    features = {"a": jnp.asarray(rows["a"])}
    student = jnp.zeros((60, 2))
    losses = [
        float(regularizer.apply({}, student, features, logits=logits)[0])
        for logits in (right, jnp.roll(right, 1, axis=1))
    ]
    assert losses[0] < 0.1 < 5 < losses[1]


def test_ft_encodes_bfloat16_and_factors():
    rows = {"a": low_rank(30, 6, 2, 0), "b": low_rank(30, 3, 1, 0)}
    regularizer = ft(epochs=2)(evidence_of(rows, np.zeros(30), rows, np.zeros(30), 2))
    params = regularizer.init(jax.random.key(0), FeatureSpec(6, {"a": 6, "b": 3}))
    assert params["third"]["weight"].shape == (32, 32)
    student = {"x": jnp.ones((4, 2)), "y": jnp.ones((4, 3))}
    teachers = {name: jnp.asarray(part[:4], jnp.bfloat16) for name, part in rows.items()}
    value, metrics = regularizer.apply(params, student, teachers, mask=jnp.array([1.0, 1, 0, 0]))
    assert value.dtype == jnp.float32
    assert np.isfinite(value)
    assert float(metrics["regularizer"][1]) == 2


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Arrays in three splits with stores of train and tune; features of test were never made."""
    root = tmp_path_factory.mktemp("arrays")
    content = {}
    for number, split in enumerate(("train", "tune", "test")):
        values = np.random.default_rng(number).normal(size=(24, 4, 4, 1)).astype(np.float32)
        content |= {f"{split}/array": values, f"{split}/label": np.arange(24) % 3}
        content[f"{split}/id"] = np.array([f"{split}{row}" for row in range(24)])
    np.savez(root / "set.npz", **content)
    raw: Any = base_config()
    raw.data.update({"name": "some", "source": "arrays", "path": str(root / "set.npz")})
    raw.student.options = {"widths": (4,), "strides": (2,)}
    raw.teachers.noise = teacher("random", "", options={"width": 5, "seed": 0})
    raw.features.update({"directory": str(root / "features"), "residency": "host"})
    raw.update({"beta": 1.0, "batch_size": 8, "steps": 2, "devices": 1})
    raw.update({"log_every": 2, "eval_every": 2, "checkpoint_every": 2})
    config = resolve(raw)
    extract(config)
    return config


def seen_by(config, monkeypatch, student=False):
    """The evidence that a method's fit gets."""
    found = []

    def fit(evidence):
        found.append((evidence, evidence.student() if student else None))
        return btune()(evidence)

    monkeypatch.setitem(FITTED, "ft", lambda: fit)
    build(dataclasses.replace(config, method="ft"))
    return found[0]


def test_a_fit_sees_train_and_tune_in_the_order_of_the_splits(arrays, monkeypatch):
    evidence, _ = seen_by(arrays, monkeypatch)
    data = load_data(arrays)
    for rows, part in ((evidence.train, data.train), (evidence.tune(), data.tune)):
        store = open_store(store_path(arrays, "noise", part.dataset.split), {})
        np.testing.assert_array_equal(rows.labels, part.dataset.labels)
        expected = store.rows().gather(store.places(part.dataset.ids))
        np.testing.assert_array_equal(rows.features["noise"], expected)
    assert evidence.num_classes == 3


def test_runs_of_every_seed_are_fitted_to_one_start(arrays, monkeypatch, caplog):
    config = dataclasses.replace(arrays, seed=3, batch_size=16)  # 24 rows: the last one is filled
    caplog.set_level("INFO")
    _, features = seen_by(config, monkeypatch, student=True)
    plain = build(dataclasses.replace(config, method="stl"))
    variables = initial_state(plain, 0).variables
    inputs = jnp.asarray(plain.train.inputs(np.arange(24)))
    expected = plain.student.apply(variables, inputs, False, {})[0].features
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    assert "the start is random: the method is fitted to the student of seed 0" in caplog.text


def test_examples_without_features_are_left_out(arrays, monkeypatch, tmp_path):
    """Stores of half of the examples, read with missing="skip"."""
    half = dict(np.load(arrays.data.path))
    for name in list(half):
        half[name] = half[name][::2]
    np.savez(tmp_path / "set.npz", **half)
    features = dataclasses.replace(
        arrays.features, directory=str(tmp_path / "features"), missing="skip"
    )
    less = dataclasses.replace(arrays.data, path=str(tmp_path / "set.npz"))
    extract(dataclasses.replace(arrays, data=less, features=features))
    config = dataclasses.replace(arrays, features=features)
    evidence, student = seen_by(config, monkeypatch, student=True)
    whole, all_rows = seen_by(arrays, monkeypatch, student=True)
    for ours, theirs in ((evidence.train, whole.train), (evidence.tune(), whole.tune())):
        np.testing.assert_array_equal(ours.labels, theirs.labels[::2])
        np.testing.assert_array_equal(ours.features["noise"], theirs.features["noise"][::2])
    np.testing.assert_array_equal(student, all_rows[::2])


def test_stores_of_none_of_the_examples_are_refused(arrays, tmp_path):
    others = dict(np.load(arrays.data.path))
    for name in [name for name in others if name.endswith("/id")]:
        others[name] = np.char.add("other", others[name])
    np.savez(tmp_path / "set.npz", **others)
    features = dataclasses.replace(
        arrays.features, directory=str(tmp_path / "features"), missing="skip"
    )
    less = dataclasses.replace(arrays.data, path=str(tmp_path / "set.npz"))
    extract(dataclasses.replace(arrays, data=less, features=features))
    with pytest.raises(StoreError, match="none of the 24 examples of 'train' has those of every"):
        build(dataclasses.replace(arrays, features=features, method="btune"))
