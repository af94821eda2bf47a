"""MLP-Mixer as a student: against its equations, and what it refuses."""

import jax
import numpy as np
import pytest
from scipy.special import erf

from aft_jax.students.mixer import mixer

OPTIONS = {
    **{"image_size": 8, "patch_size": 4, "width": 6, "depth": 1},
    **{"token_hidden": 5, "channel_hidden": 7},
}


def images(size):
    return jax.random.normal(jax.random.key(0), (2, size, size, 3))


@pytest.fixture(scope="module")
def variables():
    init = jax.jit(mixer(3, **OPTIONS).init, static_argnames="train")
    return init(jax.random.key(0), images(8), train=False)


def normed(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def mlp(x, block):
    x = x @ block["fc1"]["kernel"][0]
    x = x * (1 + erf(x / np.sqrt(2))) / 2
    return x @ block["fc2"]["kernel"][0]


def test_the_equations(variables):
    output = jax.jit(mixer(3, **OPTIONS).apply, static_argnames="train")(
        variables, images(8), train=True
    )
    # Biases are zero and scales one at the start.
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    tower = params["tower"]
    corners = [(0, 0), (0, 4), (4, 0), (4, 4)]
    pixels = np.asarray(images(8), np.float64)
    patches = [pixels[:, i : i + 4, j : j + 4].reshape(2, -1) for i, j in corners]
    x = np.stack(patches, axis=1) @ tower["patches"]["kernel"].reshape(48, 6)
    mixed = mlp(normed(x).transpose(0, 2, 1), tower["blocks"]["tokens"])
    x = x + mixed.transpose(0, 2, 1)
    x = x + mlp(normed(x), tower["blocks"]["channels"])
    features = normed(x).mean(1)
    np.testing.assert_allclose(output.features, features, rtol=1e-4, atol=1e-6)
    logits = features @ params["head"]["kernel"]
    np.testing.assert_allclose(output.logits, logits, rtol=1e-4, atol=1e-6)


def test_another_image_size_is_refused(variables):
    message = r"student\.options\.image_size, 8 pixels a side; got 12 x 12\. Set config\.inputs"
    with pytest.raises(ValueError, match=message):
        mixer(3, **OPTIONS).apply(variables, images(12), train=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, r"width is a positive integer; got 0"),
        ({"token_hidden": 2.5}, r"token_hidden is a positive integer; got 2\.5"),
        ({"image_size": 10}, r"image_size is a multiple .*; got 10 and 4\. Take 8 or 12"),
        ({"remat": None}, r"remat is True or False; got None"),
        ({"dtype": "float8"}, r"dtype is one of float32, bfloat16, float16; got 'float8'"),
    ],
)
def test_options_of_another_form(changes, message):
    with pytest.raises(ValueError, match=message):
        mixer(3, **(OPTIONS | changes))
