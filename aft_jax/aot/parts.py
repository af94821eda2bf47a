"""What a training step is made of, as shapes: from a config and two flags, or from its data."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aft_jax.config import Config
from aft_jax.data import load_split
from aft_jax.data.tokens import BYTES
from aft_jax.errors import ConfigError
from aft_jax.losses.regularizer import REGULARIZERS
from aft_jax.students import find_start
from aft_jax.students.pretrained.named import named_options
from aft_jax.training import loss_scale
from aft_jax.training.experiment import build, feature_spec
from aft_jax.training.methods import LEARNERS, find_method
from aft_jax.training.protocol import make_protocol
from aft_jax.training.state import TrainState, new_state
from aft_jax.types import Batch, PyTree, Regularizer, Student

TOKENS = ("input_ids", "attention_mask", "token_type_ids")
"""What a student reads of a text, each [b, l]."""


class Parts(NamedTuple):
    """A training step before it is compiled.

    Attributes:
        student: the network.
        regularizer: the method's term.
        optimizer: of both.
        new_state: root key -> state at step 0.
        batch: shapes and dtypes of the global batch.
        steps: optimizer steps of the run.
    """

    student: Student
    regularizer: Regularizer
    optimizer: optax.GradientTransformation
    new_state: Callable[[jax.Array], TrainState]
    batch: Batch
    steps: int


def without_weights(config: Config) -> Config:
    """The config with a student of random weights in the shape of those that it names.

    Args:
        config: the run's config.

    Returns:
        The config. Of weights named after one of timm's architectures nothing is read; of others
        their description is.

    Raises:
        ConfigError: the weights belong to a model that our architecture cannot be.
        UsageError: they are not to be had, damaged, or for another student or other inputs.
    """
    student = config.student
    options: Mapping[str, Any] | None = named_options(student, config.inputs)
    if options is not None:
        options = options | student.options
    elif student.pretrained or student.init_from:
        options = find_start(student, config.inputs).options
    else:
        return config
    shape = {key: value for key, value in options.items() if key != "dtype"}  # config.precision
    plain = dataclasses.replace(student, options=shape, pretrained="", init_from="", revision="")
    return dataclasses.replace(config, student=plain)


def parts_of_flags(config: Config, classes: int, widths: Mapping[str, int]) -> Parts:
    """The parts of a step whose data have so many classes and whose stores are so wide.

    Args:
        config: the run's config. Only inputs of kind "array" have their data read: nothing else
            says how large they are.
        classes: k.
        widths: teacher name -> t, for every teacher of the config.

    Returns:
        The parts.

    Raises:
        ConfigError: the widths are not those of the config's teachers, or the method needs the
            stored features themselves, or the rows of the data set.
    """
    _check_flags(config, widths)
    shaped = without_tokenizer(without_weights(config))
    method = find_method(shaped)
    if config.method in LEARNERS:
        _refuse(config)
    student = method.learner().make(tuple(map(str, range(classes))))
    dims = dict(widths) if method.reads_teachers else {}
    kind = jnp.dtype(config.features.dtype)
    read = read_of_flags(config)
    example = jax.tree.map(lambda leaf: jnp.zeros((1, *leaf.shape), leaf.dtype), read)
    spec = feature_spec(student, example, dims)
    made = method.regularizer(lambda: _refuse(config))
    protocol = make_protocol(config, config.batch_size, made)
    regularizer, optimizer = protocol.regularizer, protocol.optimizer
    named = {name: jax.ShapeDtypeStruct((width,), kind) for name, width in dims.items()}
    return Parts(
        student,
        regularizer,
        optimizer,
        lambda key: new_state(
            key, student, regularizer, optimizer, spec, example, loss_scale.init(config.precision)
        ),
        _batch(read, named, config.batch_size),
        protocol.steps,
    )


def parts_of_data(config: Config) -> Parts:
    """The parts of a step of this config's data and stores.

    Args:
        config: the run's config.

    Returns:
        The parts; texts have the largest of `config.inputs.buckets`.

    Raises:
        UsageError: the data or stores cannot be read or do not fit the config.
    """
    lean = dataclasses.replace(
        without_weights(config),
        inputs_residency="host",
        features=dataclasses.replace(config.features, residency="stream"),
        devices=1,
    )
    experiment = build(lean)
    one, views = np.zeros(1, int), np.zeros(1, int) if config.views > 0 else None
    features = experiment.features.batch(one, views)[0] if experiment.features else {}
    read = _longest(_of_row(experiment.train.inputs(one)), config.inputs.max_length)
    return Parts(
        experiment.student,
        experiment.regularizer,
        experiment.protocol.optimizer,
        experiment.new_state,
        _batch(read, _of_row(features), config.batch_size),
        experiment.protocol.steps,
    )


def without_tokenizer(config: Config) -> Config:
    """The config with the built-in tokenizer where one is named: no shape depends on it."""
    if not config.inputs.tokenizer:
        return config
    return dataclasses.replace(config, inputs=dataclasses.replace(config.inputs, tokenizer=BYTES))


def read_of_flags(config: Config) -> PyTree:
    """What a student reads of one example, as shapes: texts are as long as the longest kept."""
    inputs = config.inputs
    if inputs.kind == "array":
        array = np.asarray(load_split(config.data, "train").examples[0]["array"])
        return jax.ShapeDtypeStruct(array.shape, array.dtype)
    image = jax.ShapeDtypeStruct((inputs.image_size, inputs.image_size, 3), jnp.uint8)
    tokens = {key: jax.ShapeDtypeStruct((inputs.max_length,), jnp.int32) for key in TOKENS[:2]}
    both: PyTree = {"image": image, **tokens}
    return {"image": image, "text": tokens, "image_text": both}[inputs.kind]


def _of_row(arrays: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), arrays)


def _longest(read: PyTree, length: int) -> PyTree:
    if not isinstance(read, dict):
        return read
    return {
        key: jax.ShapeDtypeStruct((length,), leaf.dtype) if key in TOKENS else leaf
        for key, leaf in read.items()
    }


def _batch(read: PyTree, features: Mapping[str, Any], rows: int) -> Batch:
    def of_rows(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *leaf.shape), leaf.dtype)

    ones = jax.ShapeDtypeStruct((rows,), jnp.float32)
    shapes: dict[str, Any] = {
        "inputs": jax.tree.map(of_rows, read),
        "labels": jax.ShapeDtypeStruct((rows,), jnp.int32),
        "mask": ones,
        "feature_mask": ones,
        "teacher_features": jax.tree.map(of_rows, dict(features)),
    }
    return Batch(**shapes)


def _check_flags(config: Config, widths: Mapping[str, int]) -> None:
    # A teacher with two towers has a width for each, "clip.image" and "clip.text".
    named = {name.partition(".")[0] for name in widths}
    if config.method != "stl" and named != set(config.teachers):
        raise ConfigError(
            "--widths has the feature width of every teacher in config.teachers; the config names "
            f"{', '.join(config.teachers) or 'none'}, the flag {', '.join(widths) or 'none'}."
        )
    if config.official_quirks:
        raise ConfigError(
            "config.official_quirks counts in epochs of the data set; leave out --classes and "
            "--widths, so that it is loaded."
        )


def _refuse(config: Config) -> Any:
    raise ConfigError(
        f"method {config.method!r} reads the stored features themselves before it trains; leave "
        "out --classes and --widths, so that data and stores are loaded. Without them these can be "
        f"compiled: {', '.join(REGULARIZERS)}."
    )
