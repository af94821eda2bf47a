"""Everything of a run that does not depend on its seed and beta, built once from the config.

One experiment trains many times: its steps compile once, with beta and the root key as arguments.
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from aft_jax.config import Config, InputsConfig
from aft_jax.data import load_splits, report_overlap, require_whole_batch, vocabulary_size
from aft_jax.errors import ConfigError
from aft_jax.features import TeacherFeatures
from aft_jax.losses.factors import named_factors
from aft_jax.losses.regularizer import make_regularizer
from aft_jax.students import (
    Start,
    find_start,
    make_student,
    normalised,
)
from aft_jax.training.batches import (
    StudentData,
    read_by_student,
    require_teachers,
    teacher_features,
)
from aft_jax.training.optim import make_optimizer
from aft_jax.training.sharding import data_mesh, replicated, row_sharded
from aft_jax.training.state import TrainState, new_state
from aft_jax.training.step import (
    EvalStep,
    TrainStep,
    compile_eval_step,
    compile_train_step,
    make_train_step,
)
from aft_jax.types import FeatureSpec, PyTree, Regularizer, Student

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a run.

    Attributes:
        config: its config; seed and beta are only defaults.
        train: the examples to train on.
        tune: the examples that may choose anything.
        features: the teachers' features of `train`; None where the method reads none.
        student: the network.
        start: where its weights come from, and its whole options.
        weights: the student's variables before the first step; a shape without values is random.
        regularizer: the method.
        mesh: the devices.
        new_state: root key -> state at step 0 with random weights.
        train_step: compiled.
        eval_step: compiled.
    """

    config: Config
    train: StudentData
    tune: StudentData
    features: TeacherFeatures | None
    student: Student
    start: Start
    weights: PyTree
    regularizer: Regularizer
    mesh: Mesh
    new_state: Callable[[jax.Array], TrainState]
    train_step: TrainStep
    eval_step: EvalStep


class RunData(NamedTuple):
    """What runs of one data set share, whatever their method.

    Attributes:
        train: the examples to train on.
        tune: the examples that may choose anything.
    """

    train: StudentData
    tune: StudentData


def load_data(config: Config) -> RunData:
    """Loads both splits, and warns where they share examples.

    Args:
        config: the run's config.

    Returns:
        The splits with what the student reads of them.

    Raises:
        ConfigError: a name in the config is unknown, or a batch is larger than the split.
        DataError: the data cannot be read, or break a rule.
    """
    train, tune = load_splits(config.data, "train", "tune")
    report_overlap((train, tune))
    require_whole_batch(len(train), config.batch_size)
    return RunData(read_by_student(config, train), read_by_student(config, tune))


def build(
    config: Config, data: RunData | None = None, features: TeacherFeatures | None = None
) -> Experiment:
    """Loads the data, joins the teachers' features to it, and compiles nothing yet.

    Args:
        config: the run's config.
        data: of this config, where it is loaded already.
        features: the teachers' features of its training split, where they are loaded already.

    Returns:
        The experiment.

    Raises:
        ConfigError: a name in the config is unknown or its parts do not fit.
        DataError: the data cannot be read, or break a rule.
        StoreError: a feature store is missing or does not belong to this teacher and these
            examples.
        UsageError: the student to start from does not exist or has another architecture.
    """
    regularizer = _regularizer(config)
    if regularizer.reads_teachers:
        require_teachers(config)
    start = find_start(config.student, config.inputs)
    _check_text(config, start)
    data = data or load_data(config)
    train = data.train.dataset
    student = student_of(config.student.name, start.options, config.inputs, train.classes)
    mesh = data_mesh(config.devices, config.batch_size)
    if not regularizer.reads_teachers:
        features = None
    elif features is None:
        features = teacher_features(config, train, row_sharded(mesh))
        _LOG.info("%s", features.describe())
    optimizer = make_optimizer(config.optim, config.steps)
    example = jax.tree.map(jnp.asarray, data.train.inputs(np.zeros(1, int)))
    try:
        spec = _feature_spec(student, example, features.dims if features else {})
    except ValueError as error:
        raise ConfigError(f"config.student and config.inputs fit each other: {error}") from error

    def fresh_state(key: jax.Array) -> TrainState:
        return new_state(key, student, regularizer, optimizer, spec, example)

    return Experiment(
        config=config,
        train=data.train,
        tune=data.tune,
        features=features,
        student=student,
        start=start,
        weights=start.fill(jax.eval_shape(student.init, jax.random.key(0), example)),
        regularizer=regularizer,
        mesh=mesh,
        new_state=jax.jit(fresh_state, out_shardings=replicated(mesh)),
        train_step=compile_train_step(make_train_step(student, regularizer, optimizer), mesh),
        eval_step=compile_eval_step(student, mesh),
    )


def student_of(
    name: str, options: Mapping[str, Any], inputs: InputsConfig, classes: tuple[str, ...]
) -> Student:
    """A student for these classes; it reads what `read_by_student` loads."""
    return normalised(make_student(name, len(classes), options), inputs)


def initial_state(experiment: Experiment, seed: int) -> TrainState:
    """The state at step 0: random by `seed`, but for a pre-trained body where there is one."""
    sharding = replicated(experiment.mesh)
    state = experiment.new_state(jax.device_put(jax.random.key(seed), sharding))

    def known(random: jax.Array, found: Any) -> jax.Array:
        if isinstance(found, jax.ShapeDtypeStruct):
            return random
        return jax.device_put(found, sharding)

    return state._replace(variables=jax.tree.map(known, state.variables, experiment.weights))


def _check_text(config: Config, start: Start) -> None:
    """An id beyond the embedding table would read NaN; one of another vocabulary, another word."""
    tower, tokenizer = start.options.get("text"), config.inputs.tokenizer
    options = tower if isinstance(tower, Mapping) else start.options  # of a student with two
    rows, positions = options.get("vocab_size"), options.get("positions", config.inputs.max_length)
    if "text" not in config.inputs.kind or rows is None:
        return
    if positions < config.inputs.max_length:
        raise ConfigError(
            f"config.inputs.max_length is at most the {positions} positions that "
            f"{config.student.name} has; got {config.inputs.max_length}."
        )
    ids = vocabulary_size(config.inputs)
    if rows < ids:
        raise ConfigError(
            "config.student.options.vocab_size is at least that of config.inputs.tokenizer; got "
            f"{rows} for the {ids} ids of {tokenizer!r}."
        )
    if start.tokenizer not in ("", tokenizer) and rows != ids:
        raise ConfigError(
            f"config.inputs.tokenizer is that of the weights; {start.tokenizer!r} knows {rows} "
            f"words, {tokenizer!r} {ids}. Set config.inputs.tokenizer to {start.tokenizer!r}."
        )


def _regularizer(config: Config) -> Regularizer:
    try:
        return make_regularizer(config.method, **config.method_options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.method and config.method_options: {error}") from error


def _feature_spec(
    student: Student, example: PyTree, teacher_dims: Mapping[str, int]
) -> FeatureSpec:
    def widths(inputs):
        variables = student.init(jax.random.key(0), inputs)
        return student.apply(variables, inputs, False, {})[0].features

    factors = named_factors(jax.eval_shape(widths, example))
    student_dim = math.prod(factor.shape[-1] for factor in factors.values())
    return FeatureSpec(student_dim, teacher_dims)
