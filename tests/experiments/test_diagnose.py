"""A student whose features are factors, built into an experiment and drawn."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from aft_jax.config import resolve
from aft_jax.experiments.diagnose import diagnose
from aft_jax.features import TeacherFeatures
from aft_jax.students import save_student
from aft_jax.training import build
from aft_jax.training.experiment import initial_state
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


def test_the_width_of_factors_is_that_of_their_product(config):
    features = TeacherFeatures(
        {"a": 5}, "device", missing=0, reason="", _rows={}, _views=0, _gather=lambda rows: {}
    )
    experiment = build(dataclasses.replace(config, method="aft_no_kernel"), features=features)
    params = jax.eval_shape(experiment.new_state, jax.random.key(0)).regularizer
    assert params["weight"].shape == (5, 3 * 4)


def test_the_kernel_of_factors_is_that_of_their_product(config, tmp_path):
    experiment = build(config)
    variables = jax.device_get(initial_state(experiment, seed=0).variables)
    student, tune = config.student, experiment.tune
    save_student(tmp_path, student.name, tune.dataset.classes, {}, config.inputs, variables)
    diagnose({"stl": experiment}, {"stl": tmp_path}, None, tmp_path)
    with np.load(tmp_path / "diagnostics.npz", allow_pickle=False) as arrays:
        kernel, labels = arrays["kernel/stl"], arrays["kernel/labels"]

    order = np.argsort(tune.dataset.labels, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, len(labels)).astype(int)]
    output, _ = experiment.student.apply(variables, tune.inputs(rows), False, {})
    product = reference.tensor_product(output.features["image"], output.features["text"])
    np.testing.assert_allclose(kernel, reference.cosine_kernel(product), rtol=0, atol=1e-4)
