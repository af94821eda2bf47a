"""Everything of a run that does not depend on its seed and beta, built once from the config.

One experiment trains many times: its steps compile once, with beta and the root key as arguments.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from aft_jax.config import Config
from aft_jax.data import Dataset, load_split, require_whole_batch
from aft_jax.errors import ConfigError
from aft_jax.features import describe, describe_teacher, join, open_store, store_path
from aft_jax.losses.regularizer import make_regularizer
from aft_jax.students import SavedStudent, load_student, make_student, with_pretrained_body
from aft_jax.teachers import identify_teacher
from aft_jax.training.optim import make_optimizer
from aft_jax.training.sharding import data_mesh, replicated, row_sharded, to_global
from aft_jax.training.state import TrainState, new_state
from aft_jax.training.step import (
    EvalStep,
    TrainStep,
    compile_eval_step,
    compile_train_step,
    make_train_step,
)
from aft_jax.types import Batch, FeatureSpec, Regularizer, Student

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a run.

    Attributes:
        config: its config; seed and beta are only defaults.
        train: the examples to train on.
        tune: the examples that may choose anything.
        features: teacher name -> [n, t] features of `train`, row by row.
        student: the network.
        pretrained: where its weights start from, or None.
        regularizer: the method.
        mesh: the devices.
        new_state: root key -> state at step 0 with random weights.
        train_step: compiled.
        eval_step: compiled.
    """

    config: Config
    train: Dataset
    tune: Dataset
    features: Mapping[str, np.ndarray]
    student: Student
    pretrained: SavedStudent | None
    regularizer: Regularizer
    mesh: Mesh
    new_state: Callable[[jax.Array], TrainState]
    train_step: TrainStep
    eval_step: EvalStep


def build(config: Config) -> Experiment:
    """Loads the data, joins the teachers' features to it, and compiles nothing yet.

    Args:
        config: the run's config.

    Returns:
        The experiment.

    Raises:
        ConfigError: a name in the config is unknown or its parts do not fit.
        StoreError: a feature store is missing or does not belong to this teacher and these
            examples.
        UsageError: the student to start from does not exist or has another architecture.
    """
    data = config.data
    train = load_split(data.source, data.train, data.task)
    tune = load_split(data.source, data.tune, data.task)
    require_whole_batch(len(train), config.batch_size)
    student = make_student(config.student.name, len(train.classes), config.student.options)
    regularizer = _regularizer(config)
    features = teacher_features(config, train, data.train) if regularizer.reads_teachers else {}
    optimizer = make_optimizer(config.optim, config.steps)
    mesh = data_mesh(config.devices, config.batch_size)
    example = jnp.asarray(train.inputs[:1])
    spec = _feature_spec(student, example, features)

    def fresh_state(key: jax.Array) -> TrainState:
        return new_state(key, student, regularizer, optimizer, spec, example)

    init_from = config.student.init_from
    return Experiment(
        config=config,
        train=train,
        tune=tune,
        features=features,
        student=student,
        pretrained=load_student(pathlib.Path(init_from)) if init_from else None,
        regularizer=regularizer,
        mesh=mesh,
        new_state=jax.jit(fresh_state, out_shardings=replicated(mesh)),
        train_step=compile_train_step(make_train_step(student, regularizer, optimizer), mesh),
        eval_step=compile_eval_step(student, mesh),
    )


def teacher_features(config: Config, dataset: Dataset, split: str) -> dict[str, np.ndarray]:
    """The stored features of every teacher for the examples of a split.

    Args:
        config: names the teachers and their stores.
        dataset: the split's examples.
        split: its name.

    Returns:
        Teacher name -> [n, t], row i for example i.

    Raises:
        ConfigError: the config names no teacher.
        StoreError: a store is missing or does not belong to this teacher and these examples.
    """
    if not config.teachers:
        raise ConfigError(
            f"method {config.method!r} transfers from teachers; config.teachers is empty. "
            "Name at least one, or use method 'stl'."
        )
    joined = {}
    for name, teacher in config.teachers.items():
        identity = identify_teacher(teacher)
        expected = describe(dataset) | {"pooling": teacher.pooling}
        if identity:
            expected |= describe_teacher(identity)
        else:
            _LOG.warning(
                "teacher %s is not at %s: its store is not compared with its weights",
                name,
                teacher.source,
            )
        joined[name] = join(open_store(store_path(config, name, split), expected), dataset.ids)
    return joined


def initial_state(experiment: Experiment, seed: int) -> TrainState:
    """The state at step 0: random by `seed`, but for a pre-trained body where there is one."""
    sharding = replicated(experiment.mesh)
    state = experiment.new_state(jax.device_put(jax.random.key(seed), sharding))
    if experiment.pretrained is None:
        return state
    student = experiment.config.student
    variables = with_pretrained_body(
        jax.device_get(state.variables), experiment.pretrained, student.name, student.options
    )
    return state._replace(variables=jax.device_put(variables, sharding))


def train_batch(experiment: Experiment, rows: np.ndarray) -> Batch:
    """The global batch of these rows of the training split, teachers' features joined."""
    host = {
        "inputs": experiment.train.inputs[rows],
        "labels": experiment.train.labels[rows],
        "mask": np.ones(len(rows), np.float32),
        "teacher_features": {name: x[rows] for name, x in experiment.features.items()},
    }
    return Batch(**to_global(host, row_sharded(experiment.mesh)))


def eval_batch(
    experiment: Experiment, dataset: Dataset, rows: np.ndarray, mask: np.ndarray
) -> Batch:
    """The global batch of these rows of any split, padding masked, without teachers."""
    host = {"inputs": dataset.inputs[rows], "labels": dataset.labels[rows], "mask": mask}
    return Batch(**to_global(host, row_sharded(experiment.mesh)), teacher_features={})


def _regularizer(config: Config) -> Regularizer:
    try:
        return make_regularizer(config.method, **config.method_options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.method and config.method_options: {error}") from error


def _feature_spec(
    student: Student, example: jax.Array, features: Mapping[str, np.ndarray]
) -> FeatureSpec:
    def widths(inputs):
        variables = student.init(jax.random.key(0), inputs)
        return student.apply(variables, inputs, False, {})[0].features

    student_dim = jax.eval_shape(widths, example).shape[-1]
    return FeatureSpec(student_dim, {name: x.shape[1] for name, x in features.items()})
