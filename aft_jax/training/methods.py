"""What `config.method` may be: the table of every method.

regularizers   losses/regularizer.py: a term beside the task's loss, with nothing to fit
fitted         training/fitted.py: such a term, fitted to the teachers' features first
learners       training/fconcat.py, concat.py: something else than a student is trained
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aft_jax.config import Config
from aft_jax.errors import ConfigError, UsageError
from aft_jax.losses.regularizer import REGULARIZERS, make_regularizer, stl
from aft_jax.students import SavedStudent
from aft_jax.training import concat, fconcat
from aft_jax.training.evidence import Evidence
from aft_jax.training.fitted import FITTED
from aft_jax.training.learner import Learner, saved_student, student_learner
from aft_jax.types import Regularizer


class LearnerKind(NamedTuple):
    """Something to train in the place of the config's student.

    Attributes:
        new: config and the method's options -> the learner before its first step.
        saved: config and what a finished run saved -> the learner with its trained weights.
        reads_stores: whether its inputs are the teachers' stored features.
    """

    new: Callable[..., Learner]
    saved: Callable[[Config, SavedStudent], Learner]
    reads_stores: bool


LEARNERS: Mapping[str, LearnerKind] = {
    fconcat.NAME: LearnerKind(fconcat.fconcat, fconcat.saved_fconcat, reads_stores=True),
    concat.NAME: LearnerKind(concat.concat, concat.saved_concat, reads_stores=False),
}
"""Methods that train no student and have no term that beta multiplies."""

METHODS = (*REGULARIZERS, *FITTED, *LEARNERS)
"""The names of all methods."""


class Method(NamedTuple):
    """A method with its options, before anything is loaded or fitted.

    Attributes:
        learner: () -> what is trained.
        regularizer: (() -> the evidence) -> the term beside the task's loss. Only methods that are
            fitted ask for the evidence.
        reads_teachers: whether the term reads the teachers' stored features.
        reads_stores: whether the term or the learner reads them.
        uses_teachers: whether teachers, or their features, have any part in it.
    """

    learner: Callable[[], Learner]
    regularizer: Callable[[Callable[[], Evidence]], Regularizer]
    reads_teachers: bool
    reads_stores: bool
    uses_teachers: bool

    @property
    def has_beta(self) -> bool:
        """Whether beta changes anything."""
        return self.reads_teachers


def find_method(config: Config) -> Method:
    """The config's method, its name and options checked.

    Args:
        config: with `method` and `method_options`.

    Returns:
        The method.

    Raises:
        ConfigError: no method has that name, or its options are unknown or out of their range.
    """
    name, options = config.method, config.method_options
    if name not in METHODS:
        raise ConfigError(f"config.method is one of {', '.join(METHODS)}; got {name!r}.")
    try:
        if name in LEARNERS:
            return _learner_method(config)
        student = functools.partial(student_learner, config)
        if name in FITTED:
            fit = FITTED[name](**options)
            return Method(student, lambda evidence: fit(evidence()), True, True, True)
        regularizer = make_regularizer(name, **options)
    except UsageError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.method and config.method_options: {error}") from error
    reads = regularizer.reads_teachers
    return Method(student, lambda evidence: regularizer, reads, reads, reads)


def saved_learner(config: Config, saved: SavedStudent) -> Learner:
    """What a finished run trained, with its trained weights.

    Args:
        config: the run's.
        saved: what its directory holds.

    Returns:
        The learner.

    Raises:
        ConfigError: the architecture is unknown.
    """
    make = LEARNERS[saved.name].saved if saved.name in LEARNERS else saved_student
    return make(config, saved)


def _learner_method(config: Config) -> Method:
    kind, options = LEARNERS[config.method], config.method_options
    inspect.signature(kind.new).bind(config, **options)  # a TypeError now, not when it is made

    def learner() -> Learner:
        try:
            return kind.new(config, **options)
        except UsageError:
            raise
        except ValueError as error:
            raise ConfigError(f"config.method_options: {error}") from error

    return Method(learner, lambda evidence: stl(), False, kind.reads_stores, True)
