"""The activations of transformers, in both dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from aft_jax.students.layers.transformer import ACTIVATIONS

X = np.linspace(-6, 6, 241, dtype=np.float32)
THEIRS = {
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": torch.nn.functional.relu,
}


@pytest.mark.parametrize("name", list(THEIRS))
def test_activations_are_torchs(name):
    theirs = THEIRS[name](torch.tensor(X)).numpy()
    np.testing.assert_allclose(jax.jit(ACTIVATIONS[name])(X), theirs, rtol=1e-5, atol=2e-6)


def test_gelu_keeps_its_negative_tail_in_bfloat16():
    x = jnp.asarray([-2.0, -3.0, -3.5], jnp.bfloat16)
    theirs = torch.nn.functional.gelu(torch.tensor([-2.0, -3.0, -3.5])).numpy()
    ours = jax.jit(ACTIVATIONS["gelu"])(x)
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(ours, np.float32), theirs, rtol=0.01)
