"""The student that reads an image and a text: both reach the features, padding does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.students.small_pair import small_pair
from aft_jax.students.student import from_linen

OPTIONS = {
    "channels": (4, 6),
    "strides": (2, 1),
    "vocab_size": 9,
    "embedding": 3,
    "widths": (5,),
    "dropout": 0.25,
}
RNG = np.random.default_rng(0)
INPUTS = {
    "image": RNG.uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32),
    "input_ids": RNG.integers(1, 9, (4, 6), dtype=np.int32),
    "attention_mask": (np.arange(6) < np.array([[6], [3], [1], [0]])).astype(np.int32),
}


@pytest.fixture(scope="module")
def student():
    """The compiled `apply`, and the variables."""
    student = from_linen(small_pair(3, **OPTIONS))
    variables = jax.jit(student.init)(jax.random.key(0), INPUTS)
    return jax.jit(student.apply, static_argnums=2), variables


def test_shapes_and_head(student):
    apply, variables = student
    output, _ = apply(variables, INPUTS, False, {})
    assert (output.logits.shape, output.features.shape) == ((4, 3), (4, 5))
    head = jax.tree.map(np.asarray, variables["params"]["head"])
    expected = np.asarray(output.features) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(output.logits, expected, rtol=1e-4, atol=1e-5)


def test_both_sides_reach_the_logits(student):
    apply, variables = student
    expected, _ = apply(variables, INPUTS, False, {})
    swapped = {name: value[::-1] for name, value in INPUTS.items()}
    for names in (("image",), ("input_ids", "attention_mask")):
        changed = INPUTS | {name: swapped[name] for name in names}
        output, _ = apply(variables, changed, False, {})
        assert np.any(output.logits != expected.logits)


def test_padding_changes_no_bit(student):
    apply, variables = student
    padded = INPUTS | {
        name: np.pad(INPUTS[name], ((0, 0), (0, 4))) for name in ("input_ids", "attention_mask")
    }
    expected, _ = apply(variables, INPUTS, False, {})
    actual, _ = apply(variables, padded, False, {})
    np.testing.assert_array_equal(actual.logits, expected.logits)


def test_the_gradient_reaches_every_parameter(student):
    apply, variables = student

    @jax.jit
    @jax.grad
    def gradients(params):
        rngs = {"dropout": jax.random.key(2)}
        output, _ = apply({"params": params}, INPUTS, True, rngs)
        return jnp.mean(jax.nn.logsumexp(output.logits, axis=1)) + jnp.mean(output.features**3)

    for path, gradient in jax.tree.leaves_with_path(gradients(variables["params"])):
        assert np.all(np.isfinite(gradient)), path
        assert np.any(gradient), path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": (1,)}, r"channels and strides are those of small_cnn: .*strides \(1,\)"),
        ({"channels": (4, 9)}, r"channels and strides are those of small_cnn: .*got 9"),
        ({"embedding": 0}, r"embedding is a positive integer; got 0"),
    ],
)
def test_options_of_another_form(changes, message):
    with pytest.raises(ValueError, match=message):
        small_pair(3, **(OPTIONS | changes))
