"""One of our students as teacher: features are the student's own, the identity its weights'."""

import dataclasses
import hashlib
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.config import InputsConfig
from aft_jax.errors import ConfigError, UsageError
from aft_jax.students import make_student, save_student
from aft_jax.teachers import identify_teacher, make_teacher
from aft_jax.types import StudentOutput

OPTIONS = {"widths": (4, 6), "strides": (1, 2)}
INPUTS = InputsConfig(
    kind="array",
    image_size=8,
    image_fit="stretch",
    mean=(0.2, 0.4, 0.6),
    std=(0.5, 0.25, 0.2),
    tokenizer="",
    max_length=8,
    buckets=(8,),
)
ARRAYS = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 1)).astype(np.float32)
EXAMPLES = [{"array": array} for array in ARRAYS]
STUDENT = make_student("small_cnn", 3, OPTIONS)
BOTH = pytest.mark.parametrize("make", [make_teacher, identify_teacher])


class TwoFactors(nn.Module):
    """Features are the factors of a tensor product: mean and peak of the pixels."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train):
        pixels = images.reshape(images.shape[0], -1)
        mean, peak = jnp.mean(pixels, 1, keepdims=True), jnp.max(pixels, 1, keepdims=True)
        return StudentOutput(nn.Dense(self.num_classes)(mean), {"text": mean, "image": peak})


def initial(seed, channels):
    inputs = jnp.zeros((1, 8, 8, channels), jnp.float32)
    return jax.device_get(jax.jit(STUDENT.init)(jax.random.key(seed), inputs))


@pytest.fixture(scope="module")
def variables():
    return [initial(seed, channels=1) for seed in (0, 1)]


@pytest.fixture
def config(tmp_path, variables, configure):
    save_student(tmp_path, "small_cnn", ("a", "b", "c"), OPTIONS, INPUTS, variables[0])
    return configure("flax", tmp_path)


def pooled(variables, inputs):
    output, _ = jax.jit(STUDENT.apply, static_argnums=2)(variables, inputs, False, {})
    return output.features


def test_features_are_those_of_the_student(config, variables):
    """Five rows on eight devices: they are filled up, and cut again."""
    teacher = make_teacher(config)
    features = teacher.features(teacher.prepare(EXAMPLES))
    assert jax.local_device_count() == 8
    assert features.keys() == {"pooled"}
    assert isinstance(features["pooled"], np.ndarray)
    assert features["pooled"].dtype == np.float32
    wanted = pooled(variables[0], ARRAYS)
    np.testing.assert_allclose(features["pooled"], wanted, rtol=1e-5, atol=1e-6)


def test_factors_keep_their_names(tmp_path, configure):
    student = make_student(f"{__name__}:TwoFactors", 3, {})
    variables = student.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    classes = ("a", "b", "c")
    save_student(tmp_path, f"{__name__}:TwoFactors", classes, {}, INPUTS, variables)
    teacher = make_teacher(configure("flax", tmp_path))
    features = teacher.features(teacher.prepare(EXAMPLES))
    assert features.keys() == {"image", "text"}
    pixels = ARRAYS.reshape(5, -1)
    np.testing.assert_allclose(features["text"], pixels.mean(1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(features["image"], pixels.max(1, keepdims=True))


def test_images_are_prepared_and_normalised_as_in_training(tmp_path, configure):
    variables = initial(0, channels=3)
    images = dataclasses.replace(INPUTS, kind="image")
    save_student(tmp_path, "small_cnn", ("a", "b", "c"), OPTIONS, images, variables)
    pixels = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), dtype=np.uint8)
    teacher = make_teacher(configure("flax", tmp_path))
    features = teacher.features(teacher.prepare([{"image": image} for image in pixels]))["pooled"]
    floats = (pixels / 255 - np.array(INPUTS.mean)) / np.array(INPUTS.std)
    wanted = pooled(variables, floats.astype(np.float32))
    np.testing.assert_allclose(features, wanted, rtol=1e-4, atol=1e-5)


def test_parameters_are_counted(config):
    # 3x3x1x4 and 3x3x4x6 kernels, scale and bias of both norms, 6x3 head and its bias
    assert make_teacher(config).parameters == 36 + 216 + 2 * (4 + 6) + 18 + 3


def test_the_identity_names_the_weights(config, tmp_path):
    identity = make_teacher(config).identity
    content = (tmp_path / "student" / "model.safetensors").read_bytes()
    assert identity.weights_sha256 == hashlib.sha256(content).hexdigest()
    assert identity.id == 'flax/small_cnn {"strides": [1, 2], "widths": [4, 6]}'
    assert identity.pooling == "pooled"
    assert json.loads(identity.preprocessing)["mean"] == [0.2, 0.4, 0.6]
    assert identify_teacher(config) == identity


def test_other_weights_are_another_identity(config, tmp_path, variables):
    before = identify_teacher(config)
    save_student(tmp_path, "small_cnn", ("a", "b", "c"), OPTIONS, INPUTS, variables[1])
    after = identify_teacher(config)
    assert before is not None
    assert after is not None
    assert after.weights_sha256 != before.weights_sha256
    assert after._replace(weights_sha256=before.weights_sha256) == before


def test_other_options_are_another_identity(config, tmp_path, variables):
    """The same weights with other strides give other features."""
    before = identify_teacher(config)
    other = OPTIONS | {"strides": (2, 2)}
    save_student(tmp_path, "small_cnn", ("a", "b", "c"), other, INPUTS, variables[0])
    assert identify_teacher(config) != before


def test_other_inputs_are_another_identity(config, tmp_path, variables):
    before = identify_teacher(config)
    other = dataclasses.replace(INPUTS, image_fit="crop")
    save_student(tmp_path, "small_cnn", ("a", "b", "c"), OPTIONS, other, variables[0])
    assert identify_teacher(config) != before


def test_a_teacher_that_is_elsewhere_has_no_identity_here(configure, tmp_path):
    assert identify_teacher(configure("flax", tmp_path / "none")) is None


@BOTH
def test_a_run_without_a_student_is_refused(tmp_path, make, configure):
    with pytest.raises(UsageError, match=r"finished run has a student/ folder; .* has none"):
        make(configure("flax", tmp_path))


@BOTH
def test_an_unknown_pooling_lists_the_known(make, tmp_path, configure):
    """Also where the teacher is not on this machine."""
    with pytest.raises(
        ConfigError, match=r"teachers\.\*\.pooling of a flax teacher is one of pooled; got 'cls'"
    ):
        make(configure("flax", tmp_path / "none", pooling="cls"))


@BOTH
@pytest.mark.parametrize(
    ("key", "value"), [("layers", (1,)), ("tower", "text"), ("revision", "main"), ("max_length", 3)]
)
def test_keys_without_effect_are_refused(make, key, value, config):
    with pytest.raises(ConfigError, match=rf"teachers\.\*\.{key} does nothing for a flax teacher"):
        make(dataclasses.replace(config, **{key: value}))
