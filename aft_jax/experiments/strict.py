"""JSON read strictly: every key of a record is there, none is unknown, all have their types."""

import dataclasses
import json
import math
import pathlib
import types
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

from aft_jax.errors import UsageError
from aft_jax.files import write_whole

R = TypeVar("R")


def read_record(kind: type[R], path: pathlib.Path, fix: str) -> R:
    """Reads a file that holds one record.

    Args:
        kind: a frozen dataclass; its fields are scalars, lists, objects, other dataclasses (exactly
            their keys) or TypedDicts (at least their keys).
        path: the file.
        fix: what to do about a file that cannot be read, a sentence.

    Returns:
        The record.

    Raises:
        UsageError: the file is no JSON, or a key is missing, unknown or of the wrong type; the
            message names it.
    """
    try:
        return _read(kind, json.loads(path.read_text(encoding="utf-8")), "")
    except ValueError as error:
        if isinstance(error, _MismatchError):
            raise UsageError(f"{path}: {error} {fix}") from error
        if isinstance(error, UsageError):  # a record's own check
            raise UsageError(f"{path}: {error}") from error
        raise UsageError(f"{path} is not JSON ({error}). {fix}") from error


def write_record(record: Any, path: pathlib.Path) -> None:
    """Writes a file that `read_record` reads, whole or not at all.

    Args:
        record: a dataclass.
        path: the file; its directory exists.
    """
    write_whole(path, json.dumps(dataclasses.asdict(record), indent=2, allow_nan=False) + "\n")


def require_finite(record: Any, keys: tuple[str, ...]) -> None:
    """Refuses a trial whose numbers are not finite.

    Args:
        record: with `method` and `seed`.
        keys: its fields to look at.

    Raises:
        UsageError: one is infinite or NaN.
    """
    for key in keys:
        if not math.isfinite(value := getattr(record, key)):
            raise UsageError(
                f"{key} of {record.method!r} with seed {record.seed} must be a finite number, is "
                f"{value}: did the run diverge? Lower its learning rate or beta and run it again."
            )


class _MismatchError(UsageError):
    """A key that is not as its record says; the caller knows the fix."""


def _read(hint: Any, raw: Any, where: str) -> Any:
    """`raw` as the annotation `hint`; `where` is its dotted key."""
    if hint in (Any, object):
        return raw
    if get_origin(hint) is types.UnionType:  # X | None
        return None if raw is None else _read(get_args(hint)[0], raw, where)
    if dataclasses.is_dataclass(hint) or is_typeddict(hint):
        return _record(hint, raw, where)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        items = enumerate(_typed(list, raw, where, "a list"))
        return tuple(_read(arguments[0], item, f"{where}[{index}]") for index, item in items)
    if origin in (dict, list, Mapping):
        kind, name = (list, "a list") if origin is list else (dict, "an object")
        _typed(kind, raw, where, name)
        if origin is list:
            return [_read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(raw)]
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in raw.items()}
    if hint is float and type(raw) is int:
        return float(raw)
    return _typed(hint, raw, where, getattr(hint, "__name__", str(hint)))


def _record(kind: Any, raw: Any, where: str) -> Any:
    hints = get_type_hints(kind)
    _typed(dict, raw, where, "an object")
    prefix = f"{where}." if where else ""
    if missing := [key for key in hints if key not in raw]:
        raise _MismatchError(f"key {prefix}{missing[0]} is missing.")
    unknown = sorted(set(raw) - set(hints))
    if is_typeddict(kind):  # further facts are kept, for the reader's use
        known = {key: _read(hints[key], raw[key], prefix + key) for key in hints}
        return known | {key: raw[key] for key in unknown}
    if unknown:
        raise _MismatchError(
            f"key {prefix}{unknown[0]} is unknown; valid keys: {', '.join(hints)}."
        )
    return kind(**{key: _read(hints[key], raw[key], prefix + key) for key in hints})


def _typed(kind: type, raw: Any, where: str, name: str) -> Any:
    """Returns `raw` if it is of the type; booleans never pass for numbers."""
    if type(raw) is not kind:
        place = f"key {where}" if where else "the file"
        raise _MismatchError(f"{place} should be {name}, is {raw!r:.80}.")
    return raw
