"""One of our students as teacher: features are the student's own, the identity its weights'."""

import dataclasses
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.config import TeacherConfig
from aft_jax.errors import ConfigError, UsageError
from aft_jax.students import make_student, save_student
from aft_jax.teachers import identify_teacher, make_teacher

OPTIONS = {"widths": (4, 6), "strides": (1, 2)}
IMAGES = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 1)).astype(np.float32)
STUDENT = make_student("small_cnn", 3, OPTIONS)


@pytest.fixture(scope="module")
def variables():
    init = jax.jit(STUDENT.init)
    return [jax.device_get(init(jax.random.key(seed), jnp.asarray(IMAGES[:1]))) for seed in (0, 1)]


@pytest.fixture
def config(tmp_path, variables):
    save_student(tmp_path, "small_cnn", 3, OPTIONS, variables[0])
    return TeacherConfig(kind="flax", source=str(tmp_path), pooling="pooled")


def test_features_are_those_of_the_student(config, variables):
    teacher = make_teacher(config)
    features = teacher.features(IMAGES)
    output, _ = jax.jit(STUDENT.apply, static_argnums=2)(variables[0], IMAGES, False, {})
    assert features.keys() == {"pooled"}
    assert isinstance(features["pooled"], np.ndarray)
    assert features["pooled"].dtype == np.float32
    np.testing.assert_allclose(features["pooled"], output.features, rtol=1e-5, atol=1e-6)


def test_parameters_are_counted(config):
    # 3x3x1x4 and 3x3x4x6 kernels, scale and bias of both norms, 6x3 head and its bias
    assert make_teacher(config).parameters == 36 + 216 + 2 * (4 + 6) + 18 + 3


def test_the_identity_names_the_weights(config, tmp_path):
    identity = make_teacher(config).identity
    content = (tmp_path / "student" / "model.safetensors").read_bytes()
    assert identity.weights_sha256 == hashlib.sha256(content).hexdigest()
    assert identity.id == 'flax/small_cnn {"strides": [1, 2], "widths": [4, 6]}'
    assert identity.pooling == "pooled"
    assert identify_teacher(config) == identity


def test_other_weights_are_another_identity(config, tmp_path, variables):
    before = identify_teacher(config)
    save_student(tmp_path, "small_cnn", 3, OPTIONS, variables[1])
    after = identify_teacher(config)
    assert before is not None
    assert after is not None
    assert after.weights_sha256 != before.weights_sha256
    assert after._replace(weights_sha256=before.weights_sha256) == before


def test_other_options_are_another_identity(config, tmp_path, variables):
    """The same weights with other strides give other features."""
    before = identify_teacher(config)
    save_student(tmp_path, "small_cnn", 3, OPTIONS | {"strides": (2, 2)}, variables[0])
    assert identify_teacher(config) != before


def test_a_teacher_that_is_elsewhere_has_no_identity_here(config, tmp_path):
    assert identify_teacher(dataclasses.replace(config, source=str(tmp_path / "none"))) is None


@pytest.mark.parametrize("make", [make_teacher, identify_teacher])
def test_a_run_without_a_student_is_refused(tmp_path, make):
    with pytest.raises(UsageError, match=r"finished run has a student/ folder; .* has none"):
        make(TeacherConfig("flax", str(tmp_path), "pooled"))


@pytest.mark.parametrize("make", [make_teacher, identify_teacher])
def test_an_unknown_kind_lists_the_known(config, make):
    with pytest.raises(ConfigError, match=r"teachers\.\*\.kind is one of flax; got 'timm'"):
        make(dataclasses.replace(config, kind="timm"))


@pytest.mark.parametrize("make", [make_teacher, identify_teacher])
def test_an_unknown_pooling_lists_the_known(config, make):
    with pytest.raises(
        ConfigError, match=r"teachers\.\*\.pooling of a flax teacher is one of pooled; got 'cls'"
    ):
        make(dataclasses.replace(config, pooling="cls"))


def test_an_unknown_pooling_is_refused_also_without_the_teacher(config, tmp_path):
    elsewhere = dataclasses.replace(config, source=str(tmp_path / "none"), pooling="cls")
    with pytest.raises(ConfigError, match="pooling of a flax teacher is one of pooled; got 'cls'"):
        identify_teacher(elsewhere)
