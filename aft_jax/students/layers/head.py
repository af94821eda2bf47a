"""The linear classifier of a student, the module that is replaced when the classes change."""

import flax.linen as nn
import jax.numpy as jnp

HEAD = "head"
"""Top-level module of every student that classifies."""


def classifier(num_classes: int) -> nn.Dense:
    """A linear map to the logits, W x + c, in float32.

    Args:
        num_classes: k.

    Returns:
        The module, to be made inside a compact `__call__`.
    """
    init = nn.initializers.truncated_normal(0.02)
    return nn.Dense(num_classes, dtype=jnp.float32, kernel_init=init, name=HEAD)
