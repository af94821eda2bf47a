"""From what a config file returns to the frozen `Config`: once, before anything is built.

No other file reads raw keys.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections

from aft_jax.config.keys import Config, InputsConfig
from aft_jax.config.rules import check_rules
from aft_jax.errors import ConfigError


def resolve(raw: ml_collections.ConfigDict | Mapping[str, Any]) -> Config:
    """Checks a raw config against its keys, their types and the rules between them.

    Args:
        raw: what `get_config` returned, or the content of a run's `config.json`.

    Returns:
        The config.

    Raises:
        ConfigError: a key is missing or unknown, a value has the wrong type, or a rule is broken.
    """
    plain = raw.to_dict() if isinstance(raw, ml_collections.ConfigDict) else raw
    config = _build(Config, plain, "config")
    check_rules(config)
    return config


def read_inputs(raw: Mapping[str, Any]) -> InputsConfig:
    """Reads the inputs that a saved student was written with.

    Args:
        raw: the fields of `InputsConfig`, as JSON has them.

    Returns:
        The inputs.

    Raises:
        ConfigError: a key is missing or unknown, or a value has the wrong type.
    """
    return _build(InputsConfig, raw, "inputs")


def to_json(config: Config) -> str:
    """The config as indented JSON, in the form that `resolve` reads."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def differing_keys(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys at which two configs differ, with both values."""
    old_flat, new_flat = _flatten(dataclasses.asdict(old)), _flatten(dataclasses.asdict(new))
    return {
        key: (old_flat.get(key), new_flat.get(key))
        for key in sorted(old_flat | new_flat)
        if old_flat.get(key) != new_flat.get(key)
    }


def _build(kind: Any, value: Any, key: str) -> Any:
    """`value` as an instance of the annotation `kind`; `key` is its dotted name for messages."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _build_record(kind, value, key)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict and isinstance(value, Mapping):
        return {
            str(name): _build(arguments[1], item, f"{key}.{name}") for name, item in value.items()
        }
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_build(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(value))
    if kind is Any:
        return _tuples(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    name = str(kind) if isinstance(kind, types.GenericAlias) else kind.__name__
    raise ConfigError(f"{key} is of type {name}; got {value!r} of type {type(value).__name__}.")


def _tuples(value: Any) -> Any:
    """Lists become tuples at any depth: what JSON read back equals what it was written from."""
    if isinstance(value, Mapping):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _build_record(kind: type, value: Any, key: str) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} is a block of keys; got {value!r}.")
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    missing, unknown = sorted(set(fields) - set(value)), sorted(set(value) - set(fields))
    if missing or unknown:
        raise ConfigError(
            f"{key} has exactly the keys {', '.join(fields)}; "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
        )
    return kind(**{name: _build(fields[name], value[name], f"{key}.{name}") for name in fields})


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
