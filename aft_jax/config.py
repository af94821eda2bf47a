"""The config of a run: its keys with their types, and the rules between them.

`resolve` turns what a config file returns into the frozen `Config` below, once, before anything is
built. No other file reads raw keys.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections

from aft_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which examples a run uses; splits are named by what they are for.

    Attributes:
        source: name of the data source, see `aft_jax.data.SOURCES`.
        task: what the labels are, where a source offers several.
        train: split to train on.
        tune: split that may choose anything (beta, steps).
        test: split that is evaluated once, at the end.
    """

    source: str
    task: str
    train: str
    tune: str
    test: str


@dataclasses.dataclass(frozen=True)
class StudentConfig:
    """The network that is trained.

    Attributes:
        name: architecture, see `aft_jax.students.STUDENTS`.
        options: keyword arguments of the architecture.
        init_from: run directory whose student gives the starting weights (its classifier head is
            replaced); empty for random weights.
    """

    name: str
    options: dict[str, Any]
    init_from: str


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """A frozen model whose features are extracted once.

    Attributes:
        kind: teacher family, see `aft_jax.teachers.TEACHERS`.
        source: what the family loads it from: for "flax" a run directory.
        pooling: which of its features, for "flax" "pooled".
    """

    kind: str
    source: str
    pooling: str


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Adam, linear warm-up and cosine decay to zero, both per step.

    Attributes:
        learning_rate: peak for the student.
        weight_decay: decoupled, for the student only.
        scales_learning_rate: peak for the regularizer's parameters; no weight decay.
        warmup_steps: steps from zero to the peak.
    """

    learning_rate: float
    weight_decay: float
    scales_learning_rate: float
    warmup_steps: int


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """What `compare` runs.

    Attributes:
        methods: the methods to compare; "stl" is the baseline.
        betas: grid that each method chooses from on the tune split.
        search_seeds: seeds of the runs that choose beta.
        seeds: paired seeds of the final runs; disjoint from `search_seeds`.
    """

    methods: tuple[str, ...]
    betas: tuple[float, ...]
    search_seeds: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides the result of a run.

    Attributes:
        seed: of initial weights, data order and dropout.
        data: the examples.
        student: the network.
        teachers: teacher name -> where it comes from.
        features_dir: directory of the feature stores, one per teacher and split.
        method: regularizer, see `aft_jax.losses.regularizer.REGULARIZERS`.
        method_options: keyword arguments of the method.
        beta: strength of the regularizer.
        batch_size: rows of the global batch.
        steps: optimizer steps.
        log_every: steps between lines of `metrics.jsonl`, the only waits for the device.
        eval_every: steps between evaluations on the tune split; a multiple of `log_every`.
        checkpoint_every: steps between checkpoints; a multiple of `log_every`.
        devices: how many devices share the batch; 0 means all.
        optim: the optimizer.
        compare: the comparison.
    """

    seed: int
    data: DataConfig
    student: StudentConfig
    teachers: dict[str, TeacherConfig]
    features_dir: str
    method: str
    method_options: dict[str, Any]
    beta: float
    batch_size: int
    steps: int
    log_every: int
    eval_every: int
    checkpoint_every: int
    devices: int
    optim: OptimConfig
    compare: CompareConfig


def resolve(raw: ml_collections.ConfigDict | Mapping[str, Any]) -> Config:
    """Checks a raw config against the keys, types and rules above.

    Args:
        raw: what `get_config` returned, or the content of a run's `config.json`.

    Returns:
        The config.

    Raises:
        ConfigError: a key is missing or unknown, a value has the wrong type, or a rule is broken.
    """
    plain = raw.to_dict() if isinstance(raw, ml_collections.ConfigDict) else raw
    config = _build(Config, plain, "config")
    _check_rules(config)
    return config


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


def _check_rules(config: Config) -> None:
    for key in ("batch_size", "steps", "log_every", "eval_every", "checkpoint_every"):
        _require(getattr(config, key) >= 1, key, "is at least 1", getattr(config, key))
    for key in ("seed", "devices"):
        _require(getattr(config, key) >= 0, key, "is not negative", getattr(config, key))
    for key in ("eval_every", "checkpoint_every"):
        both = f"{getattr(config, key)} and {config.log_every}"
        rule = "is a multiple of config.log_every, when the host looks at the device"
        # The host looks at the device after the last step too, so "only at the end" is fine.
        in_step = (
            getattr(config, key) % config.log_every == 0 or getattr(config, key) == config.steps
        )
        _require(in_step, key, rule, both)
    optim = {f"optim.{name}": value for name, value in dataclasses.asdict(config.optim).items()}
    for key, value in (optim | {"beta": config.beta}).items():
        _require(math.isfinite(value) and value >= 0, key, "is finite and not negative", value)
    both = f"{config.optim.warmup_steps} and {config.steps}"
    fits = config.optim.warmup_steps <= config.steps
    _require(fits, "optim.warmup_steps", "is at most config.steps", both)
    for name in config.teachers:
        plain = name.replace("_", "").replace("-", "").isalnum()
        _require(plain, "teachers", "are named by letters, digits, - and _", repr(name))
    _check_comparison(config.compare)


def _check_comparison(plan: CompareConfig) -> None:
    for field in dataclasses.fields(plan):
        values = getattr(plan, field.name)
        once = bool(values) and len(set(values)) == len(values)
        _require(once, f"compare.{field.name}", "lists at least one value, each once", values)
    for key in ("betas", "search_seeds", "seeds"):
        fine = all(math.isfinite(value) and value >= 0 for value in getattr(plan, key))
        _require(fine, f"compare.{key}", "are finite and not negative", getattr(plan, key))
    shared = sorted(set(plan.seeds) & set(plan.search_seeds))
    rule = "share none with config.compare.search_seeds: those that chose beta do not judge it"
    _require(not shared, "compare.seeds", rule, f"{shared} in both")


def _require(holds: bool, key: str, rule: str, value: Any) -> None:
    if not holds:
        raise ConfigError(f"config.{key} {rule}; got {value}.")


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
