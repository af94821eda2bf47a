"""The method "concat": fine-tunes the teachers themselves, side by side under one classifier.

Teachers of kind "flax" alone: their weights are here, to be trained. Each reads its own inputs.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

from aft_jax.config import Config, InputsConfig, TeacherConfig, read_inputs
from aft_jax.data import Dataset, make_inputs
from aft_jax.errors import ConfigError, UsageError
from aft_jax.losses.factors import named_factors, tensor_product
from aft_jax.students import (
    SavedStudent,
    Start,
    load_student,
    make_student,
    normalised,
    with_precision,
)
from aft_jax.students.layers.head import HEAD
from aft_jax.training.batches import StudentData
from aft_jax.training.learner import Learner, built_width, trained_start
from aft_jax.types import PyTree, Student, StudentOutput

NAME = "concat"
BODIES = "bodies"
"""Where the networks' variables are in each collection; a teacher may have any name."""


class Body(NamedTuple):
    """One of the networks.

    Attributes:
        student: with a classifier of its own, which nothing reads.
        inputs: what it reads of an example.
        options: how it is saved: its "name", "classes", "options" and "inputs".
    """

    student: Student
    inputs: InputsConfig
    options: dict[str, Any]


def concat(config: Config) -> Learner:
    """The teachers' bodies from their run directories, features concatenated, one new classifier.

        logits = W [F_1, F_2, ...] + c     in order of the teachers' names

    Args:
        config: names the teachers, all of kind "flax".

    Returns:
        The learner; config.student and config.inputs are not read.

    Raises:
        ConfigError: there is no teacher, or one of another kind.
        UsageError: a run has no student, or a damaged one.
    """
    if not config.teachers:
        raise ConfigError(
            f"method {NAME!r} trains the teachers; config.teachers is empty. Name at least one."
        )
    for name, teacher in config.teachers.items():
        _require_flax(name, teacher)
    saved = {name: load_student(pathlib.Path(x.source)) for name, x in config.teachers.items()}
    bodies = {
        name: _body(_description(student, config.precision)) for name, student in saved.items()
    }
    weights = _bodies_of({name: student.variables for name, student in saved.items()})
    options = {"teachers": {name: body.options for name, body in bodies.items()}}
    start = Start(options, lambda variables: _filled(variables, weights), {})
    return _learner(config, bodies, start)


def saved_concat(config: Config, saved: SavedStudent) -> Learner:
    """The networks of a finished run, with their trained weights; reads no teacher's directory."""
    bodies = {name: _body(options) for name, options in saved.options["teachers"].items()}
    start = trained_start(saved)
    return _learner(config, bodies, start)


def _learner(config: Config, bodies: Mapping[str, Body], start: Start) -> Learner:
    return Learner(
        NAME,
        read=lambda dataset: _read(config, bodies, dataset),
        make=lambda classes: _side_by_side(bodies, len(classes)),
        start=lambda train: start,
    )


def _require_flax(name: str, teacher: TeacherConfig) -> None:
    if teacher.kind != "flax":
        raise ConfigError(
            f"method {NAME!r} trains teachers that are students of our own runs, of kind 'flax'; "
            f"config.teachers.{name}.kind is {teacher.kind!r}. Leave it out of config.teachers, or "
            "train a run with those public weights (config.student.pretrained) and name that run."
        )


def _description(saved: SavedStudent, precision: str) -> dict[str, Any]:
    inputs = dataclasses.asdict(saved.inputs)
    return {
        "name": saved.name,
        "classes": len(saved.classes),
        "options": with_precision(saved.name, saved.options, precision),
        "inputs": inputs,
    }


def _body(options: dict[str, Any]) -> Body:
    inputs = read_inputs(options["inputs"])
    student = make_student(options["name"], options["classes"], options["options"])
    return Body(normalised(student, inputs), inputs, options)


def _read(config: Config, bodies: Mapping[str, Body], dataset: Dataset) -> StudentData:
    parts = {
        name: make_inputs(body.inputs, config.augment, dataset) for name, body in bodies.items()
    }

    def batch(rows: Any, *, views: Any = None, among: Any = None) -> PyTree:
        return {name: inputs(rows, views=views, among=among) for name, inputs in parts.items()}

    return StudentData(dataset, batch)


def _side_by_side(bodies: Mapping[str, Body], num_classes: int) -> Student:
    names = sorted(bodies)

    def init(key: jax.Array, inputs: PyTree) -> PyTree:
        fresh, widths = {}, []
        for number, name in enumerate(names):
            student = bodies[name].student
            fresh[name] = student.init(jax.random.fold_in(key, number), inputs[name])
            widths.append(_width(name, student, fresh[name], inputs[name]))
        variables = _bodies_of(fresh)
        classifier_key = jax.random.fold_in(key, len(names))
        shape = (sum(widths), num_classes)
        kernel = nn.initializers.truncated_normal(0.02)(classifier_key, shape, jnp.float32)
        head = {"kernel": kernel, "bias": jnp.zeros((num_classes,), jnp.float32)}
        return {**variables, "params": {**variables["params"], HEAD: head}}

    def apply(variables, inputs, train, rngs) -> tuple[StudentOutput, PyTree]:
        features, changed = [], {}
        for number, name in enumerate(names):
            student = bodies[name].student
            own = _body_variables(student, variables, name, inputs[name])
            keys = {stream: jax.random.fold_in(key, number) for stream, key in rngs.items()}
            output, changed[name] = student.apply(own, inputs[name], train, keys)
            features.append(tensor_product(output.features).astype(jnp.float32))
        joined = jnp.concatenate(features, axis=1)
        head = variables["params"][HEAD]
        logits = joined @ head["kernel"] + head["bias"][None]
        return StudentOutput(logits, joined), {
            **_bodies_of(changed),
            "params": variables["params"],
        }

    return Student(init, apply)


def _bodies_of(variables: Mapping[str, PyTree]) -> PyTree:
    """Teacher name -> its variables, to collection -> "bodies" -> name -> those but its head's."""
    collections = {"params": {}}
    for name, tree in variables.items():
        for collection, values in tree.items():
            kept = {key: value for key, value in values.items() if key != HEAD}
            collections.setdefault(collection, {})[name] = (
                kept if collection == "params" else values
            )
    return {collection: {BODIES: named} for collection, named in collections.items()}


def _body_variables(student: Student, variables: PyTree, name: str, inputs: PyTree) -> PyTree:
    """What a network expects, its own classifier zero: nothing reads those logits."""
    own = {
        collection: tree[BODIES][name]
        for collection, tree in variables.items()
        if name in tree[BODIES]
    }
    shapes = jax.eval_shape(student.init, jax.random.key(0), inputs)
    head = {key: value for key, value in shapes["params"].items() if key == HEAD}
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), head)
    return {**own, "params": {**own["params"], **zeros}}


def _width(name: str, student: Student, variables: PyTree, inputs: PyTree) -> int:
    output = jax.eval_shape(lambda v, x: student.apply(v, x, False, {})[0], variables, inputs)
    widths = [factor.shape[-1] for factor in named_factors(output.features).values()]
    return built_width(f"the features of {name}", widths)


def _filled(variables: PyTree, weights: PyTree) -> PyTree:
    """The shapes of a state's variables, with the weights of the bodies."""
    expected, found = _body_shapes(variables), _body_shapes(weights)
    if expected != found:
        wrong = sorted(path for path in expected | found if expected.get(path) != found.get(path))
        raise UsageError(
            f"a run's weights fit the student that its student.json describes; under method "
            f"{NAME!r} these do not: {', '.join(wrong[:5])}. Train that teacher again."
        )
    filled = {name: {**variables[name], BODIES: weights[name][BODIES]} for name in weights}
    return {**variables, **filled}


def _body_shapes(variables: PyTree) -> dict[str, tuple[int, ...]]:
    flat: dict[str, Any] = traverse_util.flatten_dict(variables, sep="/")
    return {path: leaf.shape for path, leaf in flat.items() if f"/{BODIES}/" in path}
