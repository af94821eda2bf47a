"""What a finished run's students and teachers look like, for the pictures."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from aft_jax.config import resolve
from aft_jax.experiments.reporting.diagnose import diagnose, diagnose_run
from aft_jax.experiments.reporting.diagnostics import load_diagnostics
from aft_jax.features import TeacherFeatures
from aft_jax.features.residency import Source
from aft_jax.students import save_student
from aft_jax.training import build
from aft_jax.training.experiment import initial_state
from aft_jax.training.sharding import data_mesh, row_sharded
from aft_jax.training.workdir import claim, save_regularizer
from aft_jax.types import StudentOutput
from configs import digits
from tests import reference


class TwoFactors(nn.Module):
    """Two linear views of an image; the head reads one."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train):
        pixels = images.reshape(images.shape[0], -1)
        image, text = (nn.Dense(width)(pixels) for width in (3, 4))
        return StudentOutput(nn.Dense(self.num_classes)(image), {"text": text, "image": image})


@pytest.fixture
def config():
    raw: Any = digits.get_config("smoke")
    raw.student.update(name=f"{__name__}:TwoFactors", init_from="")
    raw.student.options = {}
    return dataclasses.replace(resolve(raw), method="stl", batch_size=40, devices=1)


def features_of(dims, rows=1000):
    """Features of every row, and every seventh row without."""
    rng = np.random.default_rng(0)
    tables = {n: rng.normal(size=(rows, t)).astype(np.float32) for n, t in dims.items()}
    there = np.where(np.arange(rows) % 7 == 3, -1, np.arange(rows))

    def load(wanted):
        return {name: tables[name][np.maximum(rows, 0)] for name, rows in wanted.items()}

    source = Source({}, load, lambda tables, loaded: loaded)
    sharding = row_sharded(data_mesh(1, 1))
    where = dict.fromkeys(dims, there)
    found = TeacherFeatures(dims, "device", 0, "", sharding, source, _rows=where, _views=0)
    return found, tables, there


def save_run(directory, experiment, config):
    """A finished run of an untrained student."""
    variables = jax.device_get(initial_state(experiment, config.seed).variables)
    student, classes = config.student, experiment.tune.dataset.classes
    claim(directory, config)
    save_student(directory, student.name, classes, {}, config.inputs, variables)
    return variables


def kernel_rows(labels, count):
    order = np.argsort(labels, kind="stable")
    return order[np.linspace(0, len(order) - 1, count).astype(int)]


def test_the_width_of_factors_is_that_of_their_product(config):
    features, *_ = features_of({"a": 5})
    experiment = build(dataclasses.replace(config, method="aft_no_kernel"), features=features)
    params = jax.eval_shape(experiment.new_state, jax.random.key(0)).regularizer
    assert params["weight"].shape == (5, 3 * 4)


def test_the_kernel_of_factors_is_that_of_their_product(config, tmp_path):
    experiment = build(config)
    variables = save_run(tmp_path, experiment, config)
    tune = experiment.tune
    diagnose({"stl": experiment}, {"stl": tmp_path}, None, tmp_path)
    with np.load(tmp_path / "diagnostics.npz", allow_pickle=False) as arrays:
        kernel, labels = arrays["kernel/stl"], arrays["kernel/labels"]
        np.testing.assert_allclose(arrays["kernel/start"], kernel, rtol=0, atol=1e-5)

    output, _ = experiment.student.apply(
        variables, tune.inputs(kernel_rows(tune.dataset.labels, len(labels))), False, {}
    )
    product = reference.tensor_product(output.features["image"], output.features["text"])
    np.testing.assert_allclose(kernel, reference.cosine_kernel(product), rtol=0, atol=1e-4)


@pytest.mark.parametrize("combine", ["concat", "product"])
def test_teachers_are_combined_as_the_run_combined_them(config, tmp_path, combine):
    features, tables, there = features_of({"image": 3, "text": 4})
    config = dataclasses.replace(config, method="aft", method_options={"combine": combine})
    experiment = build(config, features=features)
    save_run(tmp_path, experiment, config)
    logits = {"image": np.array([0.0, 2.0, -1.0]), "text": np.array([1.0, 0.0, 0.0, -3.0])}
    saved = {name: values.astype(np.float32) for name, values in logits.items()}
    save_regularizer(tmp_path, {"scales": saved})
    diagnose({"aft": experiment}, {"aft": tmp_path}, features, tmp_path)
    found = load_diagnostics(tmp_path)
    assert found is not None

    labels = experiment.tune.dataset.labels
    rows = kernel_rows(labels, min(200, len(labels)))
    rows = rows[there[rows] >= 0]  # rows that a teacher lacks are left out
    np.testing.assert_array_equal(found.labels, labels[rows])
    image, text = (tables[n][rows] * reference.sigmoid(logits[n]) for n in ("image", "text"))
    together = {"concat": np.hstack([image, text])}
    together["product"] = reference.tensor_product(image, text)
    expected = reference.cosine_kernel(together[combine])
    np.testing.assert_allclose(found.kernels["teacher"], expected, rtol=0, atol=1e-5)
    left = found.without["image"]
    np.testing.assert_allclose(left, reference.cosine_kernel(text), rtol=0, atol=1e-5)
    assert set(found.kernels) == {"teacher", "start", "aft"}
    assert list(found.shares) == (["image", "text"] if combine == "concat" else [])
    np.testing.assert_allclose(found.gates["text"], reference.sigmoid(logits["text"]), rtol=1e-5)


def test_a_run_alone_is_diagnosed_as_in_a_comparison(config, tmp_path):
    config = dataclasses.replace(config, seed=3)
    experiment = build(config)
    save_run(tmp_path, experiment, config)
    diagnose({"stl": experiment}, {"stl": tmp_path}, None, tmp_path)
    compared = load_diagnostics(tmp_path)
    diagnose_run(tmp_path)
    alone = load_diagnostics(tmp_path)
    assert compared is not None
    assert alone is not None
    assert set(alone.kernels) == set(compared.kernels) == {"start", "stl"}
    np.testing.assert_array_equal(alone.labels, compared.labels)
    for name, kernel in compared.kernels.items():
        np.testing.assert_allclose(alone.kernels[name], kernel, rtol=0, atol=1e-5)


def test_what_is_no_student_is_not_diagnosed(config, tmp_path):
    experiment = build(config)
    save_run(tmp_path, experiment, config)
    variables = jax.device_get(initial_state(experiment, 0).variables)
    save_student(tmp_path, "fconcat", ("a", "b"), {}, config.inputs, variables)
    diagnose_run(tmp_path)
    assert load_diagnostics(tmp_path) is None
