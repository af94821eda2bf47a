"""The student seam: modules behind two pure functions, made by name.

Our own students are Flax linen modules: its API is frozen and purely functional, variables in and
variables out, which is what the seam, the checkpoints and the weight files rest on.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from aft_jax.errors import ConfigError
from aft_jax.students.small_cnn import small_cnn
from aft_jax.types import PyTree, Student, StudentOutput

STUDENTS: Mapping[str, Callable[..., nn.Module]] = {"small_cnn": small_cnn}
"""Architecture name -> function of `num_classes` and its options, giving the linen module."""


def make_student(name: str, num_classes: int, options: Mapping[str, Any]) -> Student:
    """Builds a student by its architecture's name.

    Args:
        name: a key of `STUDENTS`.
        num_classes: k, outputs of the head.
        options: keyword arguments of the architecture.

    Returns:
        The student.

    Raises:
        ConfigError: the name is unknown, or the options do not fit the architecture or each other.
    """
    if name not in STUDENTS:
        raise ConfigError(f"config.student.name is one of {', '.join(STUDENTS)}; got {name!r}.")
    try:
        module = STUDENTS[name](num_classes=num_classes, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.student.options do not fit {name}: {error}.") from error
    return from_linen(module)


def from_linen(module: nn.Module) -> Student:
    """Adapts a Flax linen module whose `__call__(inputs, train)` returns a `StudentOutput`.

    Args:
        module: any linen module of that signature; a plain (logits, features) pair is accepted too.

    Returns:
        The student; collections other than "params" are mutable while training. Random streams
        beside "params" (dropout) come from `rngs`.
    """

    def init(key: jax.Array, inputs: Any) -> PyTree:
        return dict(module.init(key, inputs, train=False))

    def apply(variables, inputs, train, rngs) -> tuple[StudentOutput, PyTree]:
        mutable = [name for name in variables if name != "params"] if train else []
        output, changed = module.apply(variables, inputs, train=train, rngs=rngs, mutable=mutable)
        return StudentOutput(*output), {**variables, **changed}

    return Student(init, apply)


def parameter_count(variables: PyTree) -> int:
    """How many trained numbers a student has."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
