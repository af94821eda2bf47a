"""What a method trains, and what that reads of an example: most methods train the config's student.

The trainer, evaluation and the run directory know nothing else about it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from aft_jax.config import Config, InputsConfig
from aft_jax.data import Dataset, vocabulary_size
from aft_jax.errors import ConfigError
from aft_jax.students import (
    SavedStudent,
    Start,
    find_start,
    make_student,
    normalised,
    with_precision,
)
from aft_jax.training.batches import StudentData, read_by_student
from aft_jax.types import Student

WIDEST = 2**21
"""Numbers in a row of a tensor product that is built; two CLIP towers have 2**20."""


class Learner(NamedTuple):
    """What is trained.

    Attributes:
        name: under which it is saved; learners of one name and one config read the same inputs.
        read: a split -> the split with the inputs that are read of it.
        make: class names -> the network behind two pure functions.
        start: the training split, read -> the weights to start from, and what is saved of them.
    """

    name: str
    read: Callable[[Dataset], StudentData]
    make: Callable[[tuple[str, ...]], Student]
    start: Callable[[StudentData], Start]


def student_learner(config: Config) -> Learner:
    """The student that the config names.

    Args:
        config: the run's config.

    Returns:
        The learner.

    Raises:
        ConfigError: the weights belong to a model that our architecture cannot be, or read other
            words than the config's tokenizer makes; or the student cannot compute in the config's
            precision.
        UsageError: the weights are not to be had, damaged, or for another student or other inputs.
    """
    name = config.student.name
    if "dtype" in config.student.options:
        raise ConfigError(
            "config.student.options has no dtype: config.precision says what every student "
            f"computes in; got {config.student.options['dtype']!r}. Set config.precision, and "
            "leave the option out."
        )
    start = find_start(config.student, config.inputs)
    _check_text(config, start)
    options = with_precision(name, start.options, config.precision)
    return _learner(config, name, start._replace(options=options))


def saved_student(config: Config, saved: SavedStudent) -> Learner:
    """The student of a finished run, with its trained weights."""
    return _learner(config, saved.name, trained_start(saved))


def trained_start(saved: SavedStudent) -> Start:
    """The weights that a finished run ended with, as a start."""
    return Start(saved.options, lambda variables: saved.variables, saved.origin)


def student_of(
    name: str, options: Mapping[str, Any], inputs: InputsConfig, classes: tuple[str, ...]
) -> Student:
    """A student for these classes; it reads what `read_by_student` loads."""
    return normalised(make_student(name, len(classes), options), inputs)


def built_width(what: str, widths: Sequence[int]) -> int:
    """The width of a tensor product that is built, row by row.

    Args:
        what: whose, for the message.
        widths: of its factors.

    Returns:
        Their product.

    Raises:
        ConfigError: it is above `WIDEST`.
    """
    width = math.prod(widths)
    if width > WIDEST:
        raise ConfigError(
            f"a linear classifier of a tensor product has at most {WIDEST} inputs; {what} have "
            f"{' x '.join(map(str, widths))}. Use narrower ones, or another config.method."
        )
    return width


def _learner(config: Config, name: str, start: Start) -> Learner:
    return Learner(
        name,
        read=lambda dataset: read_by_student(config, dataset),
        make=lambda classes: student_of(name, start.options, config.inputs, classes),
        start=lambda train: start,
    )


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
