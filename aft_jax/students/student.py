"""The student seam: modules behind two pure functions, made by name.

Our own students are Flax linen modules: its API is frozen and purely functional, variables in and
variables out, which is what the seam, the checkpoints and the weight files rest on.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.config import InputsConfig
from aft_jax.entry_point import is_entry_point, resolve_function
from aft_jax.errors import ConfigError
from aft_jax.students.adapters import from_linen
from aft_jax.students.bag_of_tokens import bag_of_tokens
from aft_jax.students.bert import bert
from aft_jax.students.clip import clip
from aft_jax.students.layers.precision import widened
from aft_jax.students.mixer import mixer
from aft_jax.students.mobilenet_v4 import mobilenet_v4
from aft_jax.students.resnet import resnet
from aft_jax.students.resnet_v2 import resnet_v2
from aft_jax.students.small_cnn import small_cnn
from aft_jax.students.small_pair import small_pair
from aft_jax.students.vit import vit
from aft_jax.types import PyTree, Student, StudentOutput

STUDENTS: Mapping[str, Callable[..., nn.Module]] = {
    "small_cnn": small_cnn,
    "bag_of_tokens": bag_of_tokens,
    "small_pair": small_pair,
    "vit": vit,
    "resnet": resnet,
    "resnet_v2": resnet_v2,
    "mixer": mixer,
    "mobilenet_v4": mobilenet_v4,
    "bert": bert,
    "clip": clip,
}
"""Architecture name -> function of `num_classes` and its options, giving the linen module."""

KEY = "student.name"


def make_student(name: str, num_classes: int, options: Mapping[str, Any]) -> Student:
    """Builds a student by its architecture's name.

    Args:
        name: a key of `STUDENTS`, or "module:function" for one of your own: a function of
            `num_classes` and the options that returns a linen module or a `Student`.
        num_classes: k, outputs of the head.
        options: keyword arguments of the architecture.

    Returns:
        The student. Logits and features that it gives in half precision come out in float32.

    Raises:
        ConfigError: the name is unknown, or the options do not fit the architecture or each other.
    """
    make = _function_of(name)
    try:
        made = make(num_classes=num_classes, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.student.options do not fit {name}: {error}.") from error
    if isinstance(made, nn.Module):
        return _with_wide_output(from_linen(made))
    if not isinstance(made, Student):
        raise ConfigError(
            f"a function that makes a student returns a flax.linen module or an "
            f"aft_jax.types.Student; {name} returned {type(made).__name__}."
        )
    return _with_wide_output(made)


def with_precision(name: str, options: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """The options of a student that computes in a precision: its option `dtype` set to it.

    Args:
        name: as for `make_student`.
        options: of the architecture; a `dtype` among them, of a saved student, is replaced.
        precision: as `config.precision`.

    Returns:
        The options. A function of your own that takes no `dtype` gets none; it computes as it does.

    Raises:
        ConfigError: the name is unknown, or the function takes no `dtype` and the precision is not
            "float32".
    """
    parameters = inspect.signature(_function_of(name)).parameters
    others = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if name in STUDENTS or "dtype" in parameters or (others and precision != "float32"):
        return dict(options) | {"dtype": precision}
    if precision != "float32":
        raise ConfigError(
            f"config.precision is the option `dtype` of a student; {name} takes none, so it cannot "
            f"compute in {precision}. Give the function a parameter `dtype`, "
            '"float32", "bfloat16" or "float16", and hand it to the layers as their dtype (not as '
            'their param_dtype), or set config.precision to "float32".'
        )
    return dict(options)


def _function_of(name: str) -> Callable[..., Any]:
    """The function that makes a student, or an error about its name."""
    if name in STUDENTS:
        return STUDENTS[name]
    if is_entry_point(name):
        return resolve_function(name, KEY)
    near = difflib.get_close_matches(name, STUDENTS, n=3)
    raise ConfigError(
        f"config.{KEY} is one of {', '.join(STUDENTS)}, or module:function for a function of "
        f"your own; got {name!r}." + (f" Near matches: {', '.join(near)}." if near else "")
    )


def _with_wide_output(student: Student) -> Student:
    """A student of which no loss is computed in half precision, whatever its module returns."""

    def apply(variables, inputs, train, rngs) -> tuple[StudentOutput, PyTree]:
        output, changed = student.apply(variables, inputs, train, rngs)
        return jax.tree.map(widened, output), changed

    return Student(student.init, apply)


def normalised(student: Student, inputs: InputsConfig) -> Student:
    """A student that reads the pixels as they are loaded, uint8, and normalises them itself.

    Args:
        student: reads images as (pixels / 255 - mean) / std in float32.
        inputs: with `mean` and `std`, per channel; for inputs without images nothing is changed.

    Returns:
        The student; its weights are those of the one given.
    """
    if "image" not in inputs.kind:
        return student
    mean = np.array(inputs.mean, np.float32)
    std = np.array(inputs.std, np.float32)

    def floats(images: jax.Array) -> jax.Array:
        scaled = images.astype(jnp.float32) / 255
        return (scaled - jnp.reshape(mean, (1, 1, 1, 3))) / jnp.reshape(std, (1, 1, 1, 3))

    def read(loaded: Any) -> Any:
        if inputs.kind == "image":
            return floats(loaded)
        return {**loaded, "image": floats(loaded["image"])}

    def init(key: jax.Array, loaded: Any) -> PyTree:
        return student.init(key, read(loaded))

    def apply(variables, loaded, train, rngs) -> tuple[StudentOutput, PyTree]:
        return student.apply(variables, read(loaded), train, rngs)

    return Student(init, apply)


def parameter_count(variables: PyTree) -> int:
    """How many trained numbers a student has."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
