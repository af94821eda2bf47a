"""The linear classifier of a student: what is replaced when the classes change."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from aft_jax.types import StudentOutput

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


class Classified(nn.Module):
    """A student of a tower that makes the features, and a linear classifier that reads them.

    Attributes:
        num_classes: k.
        tower: (inputs, train) -> [b, d] features in float32.
    """

    num_classes: int
    tower: nn.Module

    @nn.compact
    def __call__(self, inputs: Any, train: bool) -> StudentOutput:
        """What the tower reads -> logits [b, k] and features [b, d]."""
        features = self.tower(inputs, train)
        return StudentOutput(classifier(self.num_classes)(features), features)
