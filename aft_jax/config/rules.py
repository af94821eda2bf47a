"""The rules between the keys of a config."""

import dataclasses
import math
from typing import Any

from aft_jax.config.keys import (
    CompareConfig,
    Config,
    DataConfig,
    FeaturesConfig,
    InputsConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from aft_jax.errors import ConfigError

BETA_RANGE = (1e-3, 1e4)
"""Between which the tuner "online" keeps beta."""


def check_rules(config: Config) -> None:
    """Refuses a config whose values cannot work together.

    Args:
        config: every key of the right type.

    Raises:
        ConfigError: a rule is broken.
    """
    _check_steps(config)
    _check_devices(config)
    _check_data(config.data)
    _check_inputs(config.inputs)
    _check_student(config.student)
    _check_features(config.features)
    _check_views(config)
    for name, teacher in config.teachers.items():
        _require(_plain(name), "teachers", "are named by letters, digits, - and _", repr(name))
        _check_teacher(f"teachers.{name}", teacher)
    _check_comparison(config.compare)
    _check_sweep(config.sweep, config.log_every)
    if config.official_quirks:
        _check_quirks(config)


def _check_steps(config: Config) -> None:
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


def _check_devices(config: Config) -> None:
    for key in ("steps_per_call", "accumulation_steps"):
        _require(getattr(config, key) >= 1, key, "is at least 1", getattr(config, key))
    _one_of("precision", config.precision, ("float32", "bfloat16", "float16"))
    _one_of("state_sharding", config.state_sharding, ("replicated", "sharded"))
    _one_of("inputs_residency", config.inputs_residency, ("auto", "device", "host"))
    rule = "is divided by config.accumulation_steps into equal micro-batches"
    both = f"{config.batch_size} rows and {config.accumulation_steps}"
    _require(config.batch_size % config.accumulation_steps == 0, "batch_size", rule, both)


def _check_data(data: DataConfig) -> None:
    rule = "is a name for stores and reports, of letters, digits, - and _"
    _require(_plain(data.name), "data.name", rule, repr(data.name))
    _require(bool(data.source), "data.source", "names a kind of data source", "''")
    _one_of("data.on_error", data.on_error, ("raise", "skip"))
    _require(bool(data.train), "data.train", "names the split to train on", "''")
    _require(bool(data.test), "data.test", "names the split that is evaluated once", "''")
    both = f"{data.tune_fraction} with config.data.tune={data.tune!r}"
    if data.tune:
        rule = "is 0 where config.data.tune names a split"
        _require(data.tune_fraction == 0, "data.tune_fraction", rule, both)
    else:
        rule = "is between 0 and 1, the share of train that becomes tune, where tune is ''"
        _require(0 < data.tune_fraction < 1, "data.tune_fraction", rule, both)


def _check_inputs(inputs: InputsConfig) -> None:
    _one_of("inputs.kind", inputs.kind, ("array", "image", "text", "image_text"))
    _one_of("inputs.image_fit", inputs.image_fit, ("stretch", "crop"))
    _require(inputs.image_size >= 1, "inputs.image_size", "is at least 1", inputs.image_size)
    for key in ("mean", "std"):
        values = getattr(inputs, key)
        fine = len(values) == 3 and all(map(math.isfinite, values))
        _require(fine, f"inputs.{key}", "has a number for red, green and blue", values)
    _require(min(inputs.std) > 0, "inputs.std", "is positive", inputs.std)
    buckets = inputs.buckets
    rising = bool(buckets) and list(buckets) == sorted(set(buckets)) and buckets[0] >= 1
    fine = rising and buckets[-1] == inputs.max_length
    rule = "are rising lengths of which the last is config.inputs.max_length"
    _require(fine, "inputs.buckets", rule, f"{buckets} and {inputs.max_length}")
    if "text" in inputs.kind:
        rule = "is the directory or hub id of the student's tokenizer, where it reads text"
        _require(bool(inputs.tokenizer), "inputs.tokenizer", rule, "''")


def _check_student(student: StudentConfig) -> None:
    both = f"{student.pretrained!r} and {student.init_from!r}"
    one = not (student.pretrained and student.init_from)
    rule = "is '' where config.student.init_from gives the weights"
    _require(one, "student.pretrained", rule, both)
    fine = bool(student.pretrained) or not student.revision
    rule = "is '' where config.student.pretrained is"
    _require(fine, "student.revision", rule, repr(student.revision))


def _check_teacher(key: str, teacher: TeacherConfig) -> None:
    _one_of(f"{key}.tower", teacher.tower, ("", "image", "text", "both"))
    _one_of(f"{key}.dtype", teacher.dtype, ("float32", "bfloat16"))
    _require(teacher.max_length >= 0, f"{key}.max_length", "is not negative", teacher.max_length)


def _check_features(features: FeaturesConfig) -> None:
    _one_of("features.dtype", features.dtype, ("float32", "bfloat16"))
    _check_list("features.splits", features.splits)
    for split in features.splits:
        _one_of("features.splits", split, ("train", "tune", "test"))
    _one_of("features.missing", features.missing, ("error", "skip"))
    _one_of("features.residency", features.residency, ("auto", "device", "host", "stream"))
    for key in ("batch_size", "threads", "processes"):
        value = getattr(features, key)
        _require(value >= 1, f"features.{key}", "is at least 1", value)
    both = f"{features.process} of {features.processes}"
    inside = 0 <= features.process < features.processes
    _require(inside, "features.process", "counts from 0 below config.features.processes", both)


def _check_views(config: Config) -> None:
    area = config.augment.min_area
    _require(0 < area <= 1, "augment.min_area", "is a share, above 0 and at most 1", area)
    _require(config.views >= -1, "views", "is -1, 0 or a number of stored views", config.views)
    if config.views:
        both = f"{config.views} with {config.augment}"
        changes = area < 1 or config.augment.flip
        _require(changes, "views", "is 0 where config.augment changes nothing", both)
        kind = f"{config.views} with config.inputs.kind={config.inputs.kind!r}"
        _require("image" in config.inputs.kind, "views", "is 0 where inputs are no images", kind)


def _plain(name: str) -> bool:
    return name.replace("_", "").replace("-", "").isalnum()


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    _require(value in choices, key, f"is one of {', '.join(map(repr, choices))}", repr(value))


def _check_comparison(plan: CompareConfig) -> None:
    for key in ("methods", "betas", "search_seeds", "seeds"):
        _check_list(f"compare.{key}", getattr(plan, key))
    for key in ("betas", "search_seeds", "seeds"):
        fine = all(math.isfinite(value) and value >= 0 for value in getattr(plan, key))
        _require(fine, f"compare.{key}", "are finite and not negative", getattr(plan, key))
    shared = sorted(set(plan.seeds) & set(plan.search_seeds))
    rule = "share none with config.compare.search_seeds: those that chose beta do not judge it"
    _require(not shared, "compare.seeds", rule, f"{shared} in both")
    strangers = sorted(set(plan.method_options) - set(plan.methods))
    rule = "belong to methods of config.compare.methods"
    _require(not strangers, "compare.method_options", rule, strangers)


def _check_sweep(plan: SweepConfig, log_every: int) -> None:
    _one_of("sweep.tuner", plan.tuner, ("grid", "population", "online"))
    _one_of("sweep.scheduler", plan.scheduler, ("local", "ray"))
    for key in ("betas", "teachers", "seeds"):
        _check_list(f"sweep.{key}", getattr(plan, key))
    for key in ("betas", "seeds"):
        fine = all(math.isfinite(value) and value >= 0 for value in getattr(plan, key))
        _require(fine, f"sweep.{key}", "are finite and not negative", getattr(plan, key))
    _require(plan.together >= 0, "sweep.together", "is not negative", plan.together)
    _require(plan.interval >= 1, "sweep.interval", "is at least 1", plan.interval)
    _require(1 < plan.factor < math.inf, "sweep.factor", "is above 1 and finite", plan.factor)
    rate = plan.beta_learning_rate
    _require(0 < rate < math.inf, "sweep.beta_learning_rate", "is positive and finite", rate)
    if plan.tuner == "population":
        both = f"{plan.interval} and {log_every}"
        rule = "is a multiple of config.log_every, when the host looks at the device"
        _require(plan.interval % log_every == 0, "sweep.interval", rule, both)
        rule = "has two or more for tuner 'population', whose members they are, all above 0"
        fine = len(plan.betas) >= 2 and min(plan.betas) > 0
        _require(fine, "sweep.betas", rule, plan.betas)
    if plan.tuner == "online":
        rule = f"are between {BETA_RANGE[0]:g} and {BETA_RANGE[1]:g} for tuner 'online'"
        fine = all(BETA_RANGE[0] <= beta <= BETA_RANGE[1] for beta in plan.betas)
        _require(fine, "sweep.betas", rule, plan.betas)


def _check_quirks(config: Config) -> None:
    rule = "is 1 under config.official_quirks: a ragged batch, down to one row, cannot be shared"
    _require(config.devices == 1, "devices", rule, config.devices)
    rule = "is 1 under config.official_quirks: a ragged batch, down to one row, cannot be cut"
    _require(config.accumulation_steps == 1, "accumulation_steps", rule, config.accumulation_steps)
    rule = "is 0 under config.official_quirks: the published code shows images as they are"
    _require(config.views == 0, "views", rule, config.views)
    rule = "is 0 under config.official_quirks: the published cosine has no warm-up"
    steps = config.optim.warmup_steps
    _require(steps == 0, "optim.warmup_steps", rule, steps)


def _check_list(key: str, values: tuple[Any, ...]) -> None:
    once = bool(values) and len(set(values)) == len(values)
    _require(once, key, "lists at least one value, each once", values)


def _require(holds: bool, key: str, rule: str, value: Any) -> None:
    if not holds:
        raise ConfigError(f"config.{key} {rule}; got {value}.")
