"""A user's own function, named in a config as "module:function"."""

import pkgutil
from collections.abc import Callable
from typing import Any

from aft_jax.errors import ConfigError


def is_entry_point(text: str) -> bool:
    """Whether a config value names a function of the user's own."""
    return ":" in text


def resolve_function(text: str, key: str) -> Callable[..., Any]:
    """The function that "module:function" names.

    Args:
        text: the name; the module is found as `import` finds it, the current directory included.
        key: the config key it came from, for messages.

    Returns:
        The function.

    Raises:
        ConfigError: the text has another form, the module cannot be imported or has no such
            function.
    """
    module, _, name = text.partition(":")
    rule = f"config.{key} names a function of yours as module:function"
    if not module or not name:
        raise ConfigError(f"{rule}; got {text!r}.")
    try:
        function = pkgutil.resolve_name(text)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{rule}; {text!r} cannot be found: {error}. Run from the directory that holds the "
            "module, or install it."
        ) from error
    if not callable(function):
        raise ConfigError(f"{rule}; {text!r} is {type(function).__name__}, no function.")
    return function
