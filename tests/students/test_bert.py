"""BERT as a student: where dropout falls, ids that do not exist, what it refuses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from aft_jax.students.bert import bert

OPTIONS = {
    **{"vocab_size": 11, "width": 16, "depth": 1, "heads": 2, "hidden": 24, "positions": 8},
    "dropout": 0.5,
}
INPUTS = {
    "input_ids": np.array([[3, 1, 4, 1], [5, 9, 0, 0]], np.int32),
    "attention_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.int32),
}


@pytest.fixture(scope="module")
def variables():
    return init(bert(3, **OPTIONS), INPUTS)


def init(student, inputs):
    return jax.jit(student.init, static_argnames="train")(jax.random.key(0), inputs, train=False)


def apply(student, variables, inputs=INPUTS, seed=None):
    rngs = None if seed is None else {"dropout": jax.random.key(seed)}
    applied = jax.jit(student.apply, static_argnames="train")
    return applied(variables, inputs, train=seed is not None, rngs=rngs)


def test_dropout_reads_its_stream_in_training_only(variables):
    student = bert(3, **OPTIONS)
    first, second, again = (apply(student, variables, seed=seed) for seed in (0, 1, 0))
    assert np.any(first.features != second.features)
    np.testing.assert_array_equal(first.logits, again.logits)
    without = bert(3, **(OPTIONS | {"dropout": 0}))
    still = apply(student, variables)
    np.testing.assert_allclose(
        apply(without, variables, seed=0).logits, still.logits, rtol=1e-5, atol=1e-6
    )


EMBEDDINGS = ("embeddings/norm/scale", "embeddings/norm/bias")
ATTENTION = ("blocks/attention/out/kernel", "blocks/attention/out/bias")
MLP = ("blocks/mlp/fc2/kernel", "blocks/mlp/fc2/bias")


@pytest.mark.parametrize(
    ("off", "on"),
    [
        (ATTENTION + MLP, "embeddings/norm/bias"),
        (EMBEDDINGS + MLP, "blocks/attention/out/bias"),
        (EMBEDDINGS + ATTENTION, "blocks/mlp/fc2/bias"),
        (EMBEDDINGS + ATTENTION + MLP, None),
    ],
)
def test_dropout_falls_on_embeddings_attention_and_mlp(off, on, variables):
    flat: dict[str, Any] = dict(traverse_util.flatten_dict(variables, sep="/"))
    for name in off:
        flat[f"params/tower/{name}"] = jnp.zeros_like(flat[f"params/tower/{name}"])
    if on is not None:
        flat[f"params/tower/{on}"] = jnp.ones_like(flat[f"params/tower/{on}"])
    alone = traverse_util.unflatten_dict(flat, sep="/")
    first, second = (apply(bert(3, **OPTIONS), alone, seed=seed).features for seed in (0, 1))
    assert np.any(first != second) == (on is not None)


def test_what_the_classifier_reads_drops_and_the_features_do_not(variables):
    still = bert(3, **(OPTIONS | {"dropout": 0.0}))
    student = still.clone(dropout=0.5)  # of the classifier's input alone
    noisy, calm = apply(student, variables, seed=0), apply(student, variables)
    np.testing.assert_array_equal(noisy.features, calm.features)
    assert np.any(noisy.logits != calm.logits)


def test_remat_changes_no_gradient(variables):
    def gradients(student):
        def loss(params, inputs):
            rngs = {"dropout": jax.random.key(0)}
            output = student.apply({"params": params}, inputs, train=True, rngs=rngs)
            return jnp.sum(jnp.square(output.logits))

        return jax.jit(jax.grad(loss))(variables["params"], INPUTS)

    kept, again = (gradients(bert(3, **OPTIONS, remat=remat)) for remat in (False, True))
    assert np.any(kept["tower"]["blocks"]["mlp"]["fc1"]["kernel"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), kept, again)


def test_the_longest_text(variables):
    student = bert(3, **OPTIONS)
    for length in (8, 9):
        longer = {name: np.pad(array, ((0, 0), (0, length - 4))) for name, array in INPUTS.items()}
        if length == 8:
            assert np.all(np.isfinite(apply(student, variables, longer).logits))
            continue
        message = (
            r"texts of 8 tokens at most; got 9\. Set config\.inputs\.max_length.* to 8 or less"
        )
        with pytest.raises(ValueError, match=message):
            apply(student, variables, longer)


def test_ids_beyond_the_vocabulary_give_nan(variables):
    ids = INPUTS["input_ids"].copy()
    ids[0, 2] = 11
    features = apply(bert(3, **OPTIONS), variables, INPUTS | {"input_ids": ids}).features
    assert np.all(np.isnan(features[0]))
    assert np.all(np.isfinite(features[1]))


def test_segments_that_do_not_exist_give_nan_or_are_ignored(variables):
    types = np.full_like(INPUTS["input_ids"], 2)
    inputs = INPUTS | {"token_type_ids": types}
    assert np.all(np.isnan(apply(bert(3, **OPTIONS), variables, inputs).features))
    student = bert(3, **(OPTIONS | {"token_types": 0}))
    assert np.all(np.isfinite(apply(student, init(student, inputs), inputs).features))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, r"vocab_size is a positive integer; got 0"),
        ({"positions": 2.0}, r"positions is a positive integer; got 2\.0"),
        ({"heads": 3}, r"width is a multiple of heads; got 16 for 3 heads"),
        ({"token_types": -1}, r"token_types is an integer, at least 0; got -1"),
        ({"token_types": True}, r"token_types is an integer, at least 0; got True"),
        ({"pooler": "cls"}, r"pooler is one of 'tanh', 'relu'; got 'cls'"),
        ({"activation": "elu"}, r"activation is one of .*; got 'elu'"),
        ({"dropout": 1}, r"dropout is a share, .*; got 1"),
        ({"remat": 1}, r"remat is True or False; got 1"),
        ({"dtype": "float8"}, r"dtype is one of float32, bfloat16, float16; got 'float8'"),
    ],
)
def test_options_of_another_form(changes, message):
    with pytest.raises(ValueError, match=message):
        bert(3, **(OPTIONS | changes))
