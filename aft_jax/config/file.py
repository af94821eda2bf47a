"""Config files: small programs `get_config(argument_string) -> ConfigDict`."""

import pathlib
import runpy
import sys
from typing import Any

import ml_collections

from aft_jax.errors import ConfigError


def load_config(text: str) -> ml_collections.ConfigDict:
    """Runs a config file.

    Args:
        text: "path/to/file.py" or "path/to/file.py:arguments".

    Returns:
        What its `get_config(arguments)` returned.

    Raises:
        ConfigError: there is no such file, or its `get_config` refused the arguments.
    """
    path, _, arguments = text.partition(":")
    if not pathlib.Path(path).is_file():
        raise ConfigError(f"--config names a Python file, as configs/digits.py; {path} is none.")
    # `from configs.common import ...` works from any directory; what is importable already, wins.
    root = str(pathlib.Path(path).resolve().parents[1])
    if root not in sys.path:
        sys.path.append(root)
    try:
        program = runpy.run_path(path)
    except (ImportError, SyntaxError) as error:
        raise ConfigError(
            f"a config file is a Python program that runs; {path}: {error}."
        ) from error
    if "get_config" not in program:
        raise ConfigError(f"a config file defines get_config(arguments); {path} does not.")
    return program["get_config"](arguments)


def parse_arguments(text: str, **defaults: Any) -> Any:
    """Reads a config's argument string "key=value,flag" into the types of the defaults.

    Args:
        text: what follows the colon in `--config=file.py:text`; may be empty. A bare key of a
            boolean argument means true.
        **defaults: argument name -> default, whose type is the argument's type.

    Returns:
        The arguments.

    Raises:
        ConfigError: an argument is unknown or its value does not parse.
    """
    arguments = ml_collections.ConfigDict(defaults)
    for item in filter(None, text.split(",")):
        key, has_value, value = item.partition("=")
        if key not in defaults:
            raise ConfigError(
                f"config argument {key!r} is unknown; this config takes {', '.join(defaults)}."
            )
        if not has_value and not isinstance(defaults[key], bool):
            raise ConfigError(f"config argument {key!r} takes a value, {key}=...; got none.")
        arguments[key] = _parse_value(key, value if has_value else "True", defaults[key])
    return arguments


def _parse_value(key: str, text: str, default: Any) -> Any:
    kind = type(default)
    if kind is bool:
        words = {"true": True, "1": True, "false": False, "0": False}
        if text.lower() in words:
            return words[text.lower()]
    else:
        try:
            return kind(text)
        except ValueError:
            pass
    raise ConfigError(f"config argument {key!r} is of type {kind.__name__}; got {text!r}.")
