"""The README's train steps, run as they stand."""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aft_jax

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture
def namespace():
    """What the README says a code base has already: a model, parameters, an optimizer, batches."""

    def model(params, inputs):
        features = jnp.tanh(inputs @ params["body"])
        return features @ params["head"], features

    names = {
        "aft_jax": aft_jax,
        "beta": 3.0,
        "functools": functools,
        "jax": jax,
        "model": model,
        "model_params": {
            "body": jax.random.normal(jax.random.key(0), (5, 4)),
            "head": jax.random.normal(jax.random.key(1), (4, 3)),
        },
        "optax": optax,
        "optimizer": optax.sgd(0.1),
    }
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(block, names)
    return names


def make_batch(rows):
    rng = np.random.default_rng(0)
    return {
        "inputs": jnp.asarray(rng.normal(size=(rows, 5)), jnp.float32),
        "labels": jnp.asarray(rng.integers(0, 3, rows), jnp.int32),
        "teachers": {
            "dinov2": jnp.asarray(rng.normal(size=(rows, 1536)), jnp.float32),
            "clip": jnp.asarray(rng.normal(size=(rows, 1024)), jnp.float32),
        },
    }


def test_both_train_steps_run_and_agree(namespace):
    params, batch = namespace["params"], make_batch(16)
    opt_state = namespace["optimizer"].init(params)
    before = namespace["loss_fn"](params, batch)
    new_params, _ = namespace["train_step"](params, opt_state, batch)
    assert namespace["loss_fn"](new_params, batch) < before

    replicated = jax.tree.map(lambda x: jnp.stack([x] * 8), (params, opt_state))
    split = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), batch)
    mapped_params, _ = namespace["pmap_train_step"](*replicated, split)
    for one, many in zip(jax.tree.leaves(new_params), jax.tree.leaves(mapped_params), strict=True):
        np.testing.assert_allclose(many[0], one, atol=1e-6)


def test_no_placeholder_and_no_dead_picture():
    assert not re.search(r"@[A-Z]+@", README)
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", README)
    assert pictures
    for picture in pictures:
        assert (pathlib.Path(__file__).parents[1] / picture).is_file()
