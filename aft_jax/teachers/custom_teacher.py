'''A teacher of your own, written in Python.

A complete example, a file `my_teachers.py` beside your configs:

    import numpy as np

    from aft_jax.teachers import function_teacher


    def colours(bins):
        """Histograms of the three colour channels."""

        def histograms(examples):
            return np.stack([histogram(example["image"]) for example in examples])

        def histogram(image):
            counts = [
                np.histogram(image[:, :, channel], bins, (0, 256), density=True)[0]
                for channel in range(3)
            ]
            return np.concatenate(counts).astype(np.float32)

        return function_teacher(histograms, id=f"colours-{bins}", version="1")

and in the config:

    config.teachers.colours = teacher("custom", "my_teachers:colours", options={"bins": 8})

A function that returns an `aft_jax.teachers.Teacher` itself can do more: prepare batches in
threads while a model runs, name several parts, and hash its weights.
'''

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aft_jax.config import TeacherConfig
from aft_jax.data import Example
from aft_jax.entry_point import resolve_function
from aft_jax.errors import ConfigError, DataError
from aft_jax.teachers.teacher import Teacher, TeacherIdentity
from aft_jax.teachers.unused import refuse_unused

_KEY = "teachers.*.source"


def custom_teacher(config: TeacherConfig) -> Teacher:
    """What your own function returns.

    Args:
        config: `source` is "module:function", `options` are the function's keyword arguments.

    Returns:
        The teacher.

    Raises:
        ConfigError: there is no such function, it does not take the options, or it returns
            something else.
    """
    refuse_unused(config, ("options",))
    return _call(resolve_function(config.source, _KEY), config)


def custom_identity(config: TeacherConfig) -> TeacherIdentity | None:
    """What that teacher's features depend on, as it says itself.

    Args:
        config: as for `custom_teacher`.

    Returns:
        The identity, or None where the module, or one that it imports, is not on this machine.

    Raises:
        ConfigError: the module has no such function, it does not take the options, or it returns
            something else.
    """
    refuse_unused(config, ("options",))
    if not config.source:
        return None  # given in Python, to `extract` and `verify`
    try:
        function = resolve_function(config.source, _KEY)
    except ConfigError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            return None
        raise
    return _call(function, config).identity


def _call(function: Callable[..., Any], config: TeacherConfig) -> Teacher:
    try:
        inspect.signature(function).bind(**config.options)
    except TypeError as error:
        raise ConfigError(
            f"config.teachers.*.options are the keyword arguments of {config.source}: {error}; "
            f"got {config.options!r}."
        ) from error
    teacher = function(**config.options)
    if not isinstance(teacher, Teacher):
        raise ConfigError(
            f"config.{_KEY} names a function that returns an aft_jax.teachers.Teacher; "
            f"{config.source} returned {type(teacher).__name__}. Wrap a plain function of examples "
            "in aft_jax.teachers.function_teacher."
        )
    if not config.options:
        return teacher
    # Whatever the function calls itself: other options may give other features.
    options = json.dumps(config.options, sort_keys=True, default=str)
    return teacher._replace(
        identity=teacher.identity._replace(id=f"{teacher.identity.id} {options}")
    )


def function_teacher(
    function: Callable[[Sequence[Example]], Any], *, id: str, version: str, parameters: int = 0
) -> Teacher:
    """Makes a teacher of a plain function.

    Args:
        function: b examples -> [b, t] array of features. The same examples always give the same
            features, whichever batch they are in.
        id: names the function, with the options that decide what it computes.
        version: stands in for the hash of the weights. Change it whenever the features change:
            stores are matched by nothing else.
        parameters: number of weights, for reports.

    Returns:
        The teacher; its features have the one part "pooled".
    """
    identity = TeacherIdentity(
        id=f"custom/{id}",
        revision="",
        weights_sha256=f"version {version}",
        preprocessing="the function's own",
        pooling="the function's own",
    )

    def features(examples: Sequence[Example]) -> dict[str, np.ndarray]:
        found = np.asarray(function(examples))
        if found.ndim != 2 or len(found) != len(examples):
            raise DataError(
                "a teacher's function returns a row of features for every example; "
                f"{id} returned shape {found.shape} for {len(examples)} examples."
            )
        return {"pooled": found}

    return Teacher(identity, list, features, parameters)
