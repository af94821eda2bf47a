"""The student that reads tokens: against its equations, and whatever the padding holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.students.bag_of_tokens import bag_of_tokens
from aft_jax.students.student import from_linen

OPTIONS = {"vocab_size": 11, "embedding": 5, "widths": (7, 6), "dropout": 0.5}
IDS = np.array([[3, 1, 4, 1], [5, 9, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]], np.int32)
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], np.int32)
INPUTS = {"input_ids": IDS, "attention_mask": MASK}
RNGS = {"dropout": jax.random.key(1)}


@pytest.fixture(scope="module")
def student():
    """The compiled `apply`, and the variables."""
    student = from_linen(bag_of_tokens(3, **OPTIONS))
    variables = jax.jit(student.init)(jax.random.key(0), INPUTS)
    return jax.jit(student.apply, static_argnums=2), variables


def test_the_equations(student):
    apply, variables = student
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    output, unchanged = apply(variables, INPUTS, False, {})
    assert unchanged["params"].keys() == {"tokens", "dense", "head"}
    for row, length in enumerate(MASK.sum(1)):
        words = params["tokens"]["Embed_0"]["embedding"][IDS[row, :length]]
        x = np.concatenate([words.mean(0), words.max(0)]) if length else np.zeros(10)
        for layer in ("Dense_0", "Dense_1"):
            x = np.maximum(x @ params["dense"][layer]["kernel"] + params["dense"][layer]["bias"], 0)
        np.testing.assert_allclose(output.features[row], x, rtol=1e-4, atol=1e-6)
        logits = x @ params["head"]["kernel"] + params["head"]["bias"]
        np.testing.assert_allclose(output.logits[row], logits, rtol=1e-4, atol=1e-6)


def test_padding_changes_no_bit(student):
    apply, variables = student
    ids, mask = (np.pad(array, ((0, 0), (0, 9))) for array in (IDS, MASK))
    ids[mask == 0] = 10  # what padding holds does not matter either
    padded = {"input_ids": ids, "attention_mask": mask}
    expected, _ = apply(variables, INPUTS, False, {})
    actual, _ = apply(variables, padded, False, {})
    np.testing.assert_array_equal(actual.features, expected.features)
    np.testing.assert_array_equal(actual.logits, expected.logits)


def test_the_order_of_tokens_does_not_matter_but_which_they_are_does(student):
    apply, variables = student
    expected, _ = apply(variables, INPUTS, False, {})
    turned, _ = apply(variables, INPUTS | {"input_ids": IDS[:, [1, 0, 3, 2]]}, False, {})
    np.testing.assert_allclose(turned.features[:2], expected.features[:2], rtol=1e-5, atol=1e-6)
    other, _ = apply(variables, INPUTS | {"input_ids": IDS + np.int32(1)}, False, {})
    for row in range(3):
        assert np.any(other.features[row] != expected.features[row])


def test_segments_are_not_read(student):
    apply, variables = student
    expected, _ = apply(variables, INPUTS, False, {})
    output, _ = apply(variables, INPUTS | {"token_type_ids": MASK}, False, {})
    np.testing.assert_array_equal(output.features, expected.features)


def test_the_gradient_reaches_every_parameter_and_is_finite_without_tokens(student):
    apply, variables = student

    @jax.jit
    @jax.grad
    def gradients(params):
        output, _ = apply({"params": params}, INPUTS, True, RNGS)
        return jnp.mean(jax.nn.logsumexp(output.logits, axis=1)) + jnp.mean(output.features**3)

    for path, gradient in jax.tree.leaves_with_path(gradients(variables["params"])):
        assert np.all(np.isfinite(gradient)), path
        assert np.any(gradient), path


def test_dropout_reads_its_stream_in_training_only(student):
    apply, variables = student
    first, second = (
        apply(variables, INPUTS, True, {"dropout": jax.random.key(seed)})[0] for seed in (0, 1)
    )
    assert np.any(first.features != second.features)
    still, _ = apply(variables, INPUTS, False, RNGS)
    np.testing.assert_array_equal(still.features, apply(variables, INPUTS, False, {})[0].features)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, r"vocab_size is a positive integer; got 0"),
        ({"embedding": 2.0}, r"embedding is a positive integer; got 2\.0"),
        ({"widths": ()}, r"widths is a list .*; got \(\)"),
        ({"widths": 4}, r"widths is a list .*; got 4"),
        ({"widths": (4, True)}, r"widths are positive integers; got \(4, True\)"),
        ({"dropout": 1}, r"dropout is a share, .*; got 1"),
        ({"dropout": "0"}, r"dropout is a share, .*; got '0'"),
    ],
)
def test_options_of_another_form(changes, message):
    with pytest.raises(ValueError, match=message):
        bag_of_tokens(3, **(OPTIONS | changes))


def test_a_list_of_widths_is_as_good_as_a_tuple():
    assert bag_of_tokens(3, 11, 5, [4]) == bag_of_tokens(3, 11, 5, (4,), dropout=0)
