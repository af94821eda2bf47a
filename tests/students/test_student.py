"""What every student keeps to, whatever module lies behind it."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ModifyScopeVariableError

from aft_jax.config import read_inputs
from aft_jax.config.defaults import base_config
from aft_jax.errors import ConfigError
from aft_jax.students import from_linen, make_student, normalised, parameter_count
from aft_jax.types import Student, StudentOutput


class Normed(nn.Module):
    """Batch norm and dropout: what changes between training and inference."""

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(6, (3, 3))(images)
        x = nn.BatchNorm(use_running_average=not train)(x)
        features = jnp.mean(nn.tanh(x), axis=(1, 2))
        dropped = nn.Dropout(0.5, deterministic=not train)(features)
        return nn.Dense(3, name="head")(dropped), features


IMAGES = jax.random.uniform(jax.random.key(0), (5, 8, 8, 1), minval=-1.0)
RNGS = {"dropout": jax.random.key(1)}


@functools.cache
def batch_norm():
    """A student with batch norm: its compiled `apply`, and its variables."""
    student = from_linen(Normed())
    variables = jax.jit(student.init)(jax.random.key(2), IMAGES[:1])
    return jax.jit(student.apply, static_argnums=2), variables


def assert_trees_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_batch_statistics_move_in_training_only():
    apply, variables = batch_norm()
    _, trained = apply(variables, IMAGES, True, RNGS)
    assert set(trained) == {"params", "batch_stats"}
    assert_trees_equal(trained["params"], variables["params"])
    assert np.any(trained["batch_stats"]["BatchNorm_0"]["mean"] != 0)
    before, _ = apply(variables, IMAGES, False, {})
    after, _ = apply(trained, IMAGES, False, {})
    assert np.any(before.features != after.features)


class Counting(nn.Module):
    """Writes its state also at inference, which no student may."""

    @nn.compact
    def __call__(self, images, train):
        calls = self.variable("state", "calls", lambda: jnp.int32(0))
        calls.value += jnp.int32(1)
        return images, images


def test_a_module_that_writes_state_at_inference_is_refused():
    student = from_linen(Counting())
    variables = student.init(jax.random.key(0), IMAGES)
    _, changed = student.apply(variables, IMAGES, True, {})
    assert changed["state"]["calls"] == variables["state"]["calls"] + 1
    with pytest.raises(ModifyScopeVariableError, match="calls"):
        student.apply(variables, IMAGES, False, {})


def test_dropout_reads_its_stream_in_training():
    apply, variables = batch_norm()
    first, second = (
        apply(variables, IMAGES, True, {"dropout": jax.random.key(seed)})[0] for seed in (0, 1)
    )
    assert np.any(first.logits != second.logits)
    np.testing.assert_array_equal(first.features, second.features)


def test_parameters_are_counted_without_statistics():
    _, variables = batch_norm()
    # 3x3x1x6 kernel and its bias, scale and bias of the norm, 6x3 head and its bias
    assert parameter_count(variables) == 54 + 6 + 12 + 18 + 3


def test_an_unknown_student_lists_the_known():
    listed = r"config\.student\.name is one of small_cnn, .*, or module:function .*; got 'small_cn'"
    with pytest.raises(ConfigError, match=listed + r"\. Near matches: small_cnn"):
        make_student("small_cn", 3, {})


OWN = """
import flax.linen as nn
from aft_jax.students import from_linen

class Flat(nn.Module):
    num_classes: int
    @nn.compact
    def __call__(self, inputs, train):
        x = inputs.reshape(inputs.shape[0], -1)
        return nn.Dense(self.num_classes, name="head")(x), x

def module(num_classes):
    return Flat(num_classes)

def student(num_classes):
    return from_linen(Flat(num_classes))

def number(num_classes):
    return 3

here = 7
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's, in a directory that Python imports from."""
    (tmp_path / "my_students.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("function", ["module", "student"])
def test_a_student_of_your_own(own, function):
    student = make_student(f"my_students:{function}", 3, {})
    variables = student.init(jax.random.key(0), IMAGES)
    output, _ = student.apply(variables, IMAGES, False, {})
    assert output.logits.shape == (5, 3)
    np.testing.assert_array_equal(output.features, IMAGES.reshape(5, 64))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "my_students:nothing",
            r"config\.student\.name names a function .*'my_students:nothing' can",
        ),
        ("no_module_here:f", r"cannot be found: No module named 'no_module_here'"),
        ("my_students:here", r"is int, no function"),
        (":f", r"as module:function; got ':f'"),
        (
            "my_students:number",
            r"returns a flax\.linen module or .*my_students:number returned int",
        ),
    ],
)
def test_what_is_no_student_of_your_own(own, name, message):
    with pytest.raises(ConfigError, match=message):
        make_student(name, 3, {})


def seen(kind, loaded):
    """What a student inside `normalised` is given."""
    given = []

    def init(key, inputs):
        given.append(inputs)
        return {"params": {}}

    def apply(variables, inputs, train, rngs):
        return StudentOutput(inputs, inputs), variables

    inputs = read_inputs(
        base_config().inputs.to_dict()
        | {"kind": kind, "mean": (0.0, 0.5, 1.0), "std": (1.0, 0.5, 2.0)}
    )
    student = normalised(Student(init, apply), inputs)
    student.init(jax.random.key(0), loaded)
    output, _ = student.apply({}, loaded, False, {})
    jax.tree.map(np.testing.assert_array_equal, output.logits, given[0])
    return given[0]


def test_pixels_are_normalised_on_the_device():
    pixels = jnp.full((1, 1, 1, 3), 255, jnp.uint8)
    np.testing.assert_allclose(seen("image", pixels)[0, 0, 0], [1.0, 1.0, 0.0])
    np.testing.assert_allclose(seen("image", 0 * pixels)[0, 0, 0], [0.0, -1.0, -0.5])


def test_only_pixels_are_normalised():
    tokens = jnp.arange(4).reshape(1, 4)
    both = seen("image_text", {"image": jnp.zeros((1, 1, 1, 3), jnp.uint8), "input_ids": tokens})
    np.testing.assert_array_equal(both["input_ids"], tokens)
    np.testing.assert_allclose(both["image"][0, 0, 0], [0.0, -1.0, -0.5])
    np.testing.assert_array_equal(seen("array", tokens), tokens)


@pytest.mark.parametrize(
    "options", [{}, {"widths": (4,)}, {"widths": (4,), "strides": (1,), "depth": 3}]
)
def test_options_that_do_not_fit(options):
    with pytest.raises(ConfigError, match=r"config\.student\.options do not fit small_cnn: "):
        make_student("small_cnn", 3, options)


@pytest.mark.parametrize(
    ("widths", "strides", "message"),
    [
        ((4, 6), (1,), r"got widths \(4, 6\) and strides \(1,\)"),
        ((4, 6), (1, 2.0), r"strides are positive integers; got \(1, 2\.0\)"),
        ((4, "6"), (1, 2), r"widths are positive integers; got \(4, '6'\)"),
        ((4, 0), (1, 2), r"widths are positive integers; got \(4, 0\)"),
        ((4, 6), (1, True), r"strides are positive integers; got \(1, True\)"),
        (4, (1,), r"widths is a list .*; got 4"),
        ((), (), r"widths is a list .*; got \(\)"),
        ((4, 9), (1, 2), r"multiple of its groups in group norm; got 9 for 2 groups"),
    ],
)
def test_options_that_contradict_each_other(widths, strides, message):
    with pytest.raises(ConfigError, match=rf"config\.student\.options .*{message}"):
        make_student("small_cnn", 3, {"widths": widths, "strides": strides})
