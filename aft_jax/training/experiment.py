"""Everything of a run that does not depend on its seed and beta, built once from the config.

One experiment trains many times: its steps compile once, with beta and the root key as arguments.
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from aft_jax.config import Config
from aft_jax.data import Dataset
from aft_jax.errors import ConfigError, UsageError
from aft_jax.features import TeacherFeatures
from aft_jax.losses.factors import named_factors
from aft_jax.losses.regularizer import on_mesh
from aft_jax.students import Start
from aft_jax.training import loss_scale
from aft_jax.training.accumulation import micro_batches
from aft_jax.training.batches import (
    StudentData,
    require_teachers,
    teacher_features,
)
from aft_jax.training.evidence import FIT_SEED, gather_evidence, start_features
from aft_jax.training.feed import Feed, make_feed
from aft_jax.training.methods import Method, find_method
from aft_jax.training.protocol import Protocol, make_protocol
from aft_jax.training.run_data import RunData, load_data, read_by_learner
from aft_jax.training.sharding import (
    data_mesh,
    root_key,
    row_sharded,
    state_shardings,
)
from aft_jax.training.start import start_variables, starts_at_random, with_known
from aft_jax.training.state import TrainState, new_state
from aft_jax.training.step import (
    EvalStep,
    TrainCall,
    TrainStep,
    compile_eval_step,
    compile_train_call,
    compile_train_step,
    make_train_step,
    whole_batch,
)
from aft_jax.types import FeatureSpec, PyTree, Regularizer, Student

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a run.

    Attributes:
        config: its config; seed and beta are only defaults.
        data: both splits with what the config's student reads of them, whatever is trained here;
            to be handed to `build` for another method of the same data.
        train: the examples to train on.
        tune: the examples that may choose anything.
        features: the teachers' features of `train`; None where the regularizer reads none.
        name: of what is trained, under which it is saved: the config's student, "fconcat" or
            "concat". Methods of one name read the same inputs.
        read: another split -> the split with what is read of it.
        student: the network.
        start: where its weights come from, and its whole options.
        weights: the student's variables before the first step; a shape without values is random.
        regularizer: the method.
        protocol: the steps, and what each does with its rows and gradients.
        mesh: the devices.
        feed: what the compiled steps read.
        new_state: root key -> state at step 0 with random weights.
        step: one optimizer step, pure.
        train_step: that step on one batch, compiled.
        train_call: several steps on what the feed loaded, compiled.
        eval_step: compiled.
    """

    config: Config
    data: RunData
    train: StudentData
    tune: StudentData
    features: TeacherFeatures | None
    name: str
    read: Callable[[Dataset], StudentData]
    student: Student
    start: Start
    weights: PyTree
    regularizer: Regularizer
    protocol: Protocol
    mesh: Mesh
    feed: Feed
    new_state: Callable[[jax.Array], TrainState]
    step: TrainStep
    train_step: TrainStep
    train_call: TrainCall
    eval_step: EvalStep

    @property
    def has_beta(self) -> bool:
        """Whether the method has a term that beta multiplies."""
        return self.regularizer.reads_teachers


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
    method = find_method(config)
    if method.reads_stores:
        require_teachers(config)
    learner = method.learner()
    data = data or load_data(config)
    train, tune, _ = read_by_learner(config, learner, data)
    student, start = learner.make(train.dataset.classes), learner.start(train)
    mesh = data_mesh(config.devices, config.batch_size, config.accumulation_steps)
    if not method.reads_teachers:
        features = None
    elif features is None:
        features = teacher_features(config, train.dataset, row_sharded(mesh))
        _LOG.info("%s", features.describe())
    example = _example(train)
    spec = feature_spec(student, example, features.dims if features else {})
    weights = start.fill(jax.eval_shape(student.init, jax.random.key(0), example))
    made = _regularizer(config, method, RunData(data.fitted or train, tune), student, weights, mesh)
    protocol = make_protocol(config, len(train.dataset), made)
    regularizer, optimizer = protocol.regularizer, protocol.optimizer
    _check_params(regularizer, spec)

    def fresh_state(key: jax.Array) -> TrainState:
        scale = loss_scale.init(config.precision)
        return new_state(key, student, regularizer, optimizer, spec, example, scale)

    abstract = jax.eval_shape(fresh_state, jax.random.key(0))
    placed = state_shardings(mesh, abstract, config.state_sharding)
    _warn_of_micro_batches(config, abstract)
    step = make_step(config, student, regularizer, optimizer, mesh)
    feed = make_feed(config, train, features, protocol.steps, mesh)
    return Experiment(
        config=config,
        data=data,
        train=train,
        tune=tune,
        features=features,
        name=learner.name,
        read=learner.read,
        student=student,
        start=start,
        weights=weights,
        regularizer=regularizer,
        protocol=protocol,
        mesh=mesh,
        feed=feed,
        new_state=jax.jit(fresh_state, out_shardings=placed),
        step=step,
        train_step=compile_train_step(step, mesh, placed),
        train_call=compile_train_call(step, feed.gather, mesh, placed),
        eval_step=compile_eval_step(student, mesh),
    )


def make_step(
    config: Config,
    student: Student,
    regularizer: Regularizer,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
) -> TrainStep:
    """The optimizer step that a config asks for, pure: whole batches or micro-batches.

    Args:
        config: the run's config.
        student: the student.
        regularizer: the regularizer.
        optimizer: of the tree {"student": ..., "regularizer": ...}.
        mesh: the devices.

    Returns:
        The step.
    """
    regularizer = on_mesh(regularizer, mesh)
    if config.accumulation_steps == 1:
        return make_train_step(whole_batch(student, regularizer), optimizer)
    parts = micro_batches(student, regularizer, config.accumulation_steps, mesh)
    return make_train_step(parts, optimizer)


def initial_state(experiment: Experiment, seed: int) -> TrainState:
    """The state at step 0: random by `seed`, but for a pre-trained body where there is one."""
    state = experiment.new_state(root_key(seed, experiment.mesh))
    return state._replace(variables=with_known(state.variables, experiment.weights))


def _example(data: StudentData) -> PyTree:
    """[1, ...] what is read of one example, for shapes."""
    return jax.tree.map(jnp.asarray, data.inputs(np.zeros(1, int)))


def _regularizer(
    config: Config, method: Method, data: RunData, student: Student, weights: PyTree, mesh: Mesh
) -> Regularizer:
    """The method's term; `data` are the splits that one is fitted to, and that stops the fit."""
    train, tune = data.train, data.tune

    def untrained() -> np.ndarray:
        """The features of `train` that the start student has."""
        if starts_at_random(weights):
            said = "the start is random: the method is fitted to the student of seed %d"
            _LOG.info(said, FIT_SEED)
        variables = start_variables(student, weights, _example(train), FIT_SEED, mesh)
        return start_features(student, variables, train, config.batch_size, mesh)

    return method.regularizer(
        lambda: gather_evidence(config, train.dataset, tune.dataset, untrained)
    )


def _warn_of_micro_batches(config: Config, state: TrainState) -> None:
    if config.accumulation_steps > 1 and "batch_stats" in state.variables:
        _LOG.warning(
            "config.accumulation_steps=%d: batch normalisation sees %d rows at a time and not %d; "
            "all else is as for the whole batch",
            *(config.accumulation_steps, config.batch_size // config.accumulation_steps),
            config.batch_size,
        )


def _check_params(regularizer: Regularizer, spec: FeatureSpec) -> None:
    """A map between features can be too large to learn."""
    try:
        jax.eval_shape(lambda key: regularizer.init(key, spec), jax.random.key(0))
    except ValueError as error:
        raise ConfigError(f"config.method fits config.student and its teachers: {error}") from error


def feature_spec(student: Student, example: PyTree, teacher_dims: Mapping[str, int]) -> FeatureSpec:
    """The widths that a regularizer makes its parameters for, from shapes alone.

    Args:
        student: the student.
        example: [1, ...] what it reads.
        teacher_dims: name -> width of the teachers' features.

    Returns:
        The widths.

    Raises:
        ConfigError: the student cannot read the example.
    """

    def widths(inputs):
        variables = student.init(jax.random.key(0), inputs)
        return student.apply(variables, inputs, False, {})[0].features

    try:
        factors = named_factors(jax.eval_shape(widths, example))
    except UsageError:
        raise
    except ValueError as error:
        raise ConfigError(f"config.student and config.inputs fit each other: {error}") from error
    student_dim = math.prod(factor.shape[-1] for factor in factors.values())
    return FeatureSpec(student_dim, teacher_dims)
