"""Argument strings, the check of every key, and the JSON of a run directory."""

import copy
import json
import math
from typing import Any

import pytest

from aft_jax.config import differing_keys, resolve, to_json
from aft_jax.config.defaults import teacher
from aft_jax.config.file import parse_arguments
from aft_jax.errors import ConfigError
from configs import digits

STUDENT = digits.get_config("stage=student,smoke").to_dict()
OPEN = ("student.options", "method_options", "data.columns", "teachers.wide_cnn.options")
"""Blocks whose keys the architecture or the method decides."""


def keys_of(tree: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of all keys that a config must have."""
    keys = []
    for name, value in tree.items():
        key = prefix + name
        if key != "teachers.wide_cnn":
            keys.append(key)
        if isinstance(value, dict) and key not in OPEN:
            keys += keys_of(value, f"{key}.")
    return keys


def edited(key: str, *value: Any) -> dict[str, Any]:
    """The digits config with one key set, or taken out."""
    tree = copy.deepcopy(STUDENT)
    *parents, last = key.split(".")
    block = tree
    for name in parents:
        block = block[name]
    if value:
        block[last] = value[0]
    else:
        del block[last]
    return tree


def test_arguments_have_the_types_of_their_defaults():
    arguments = parse_arguments(
        "steps=7,rate=1e-3,name=wide,smoke", steps=1, rate=0.5, name="", smoke=False, other=2
    )
    assert arguments.to_dict() == {
        "steps": 7,
        "rate": 0.001,
        "name": "wide",
        "smoke": True,
        "other": 2,
    }
    assert type(arguments.rate) is float


def test_no_arguments_are_the_defaults():
    assert parse_arguments("", steps=3).to_dict() == {"steps": 3}


@pytest.mark.parametrize(
    ("word", "value"), [("true", True), ("False", False), ("1", True), ("0", False)]
)
def test_flags_read_words(word, value):
    assert parse_arguments(f"smoke={word}", smoke=not value).smoke is value


def test_an_unknown_argument_lists_the_known():
    with pytest.raises(ConfigError, match=r"argument 'smok' is unknown.*takes stage, smoke\."):
        digits.get_config("smok")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps=1.5", r"'steps' is of type int; got '1\.5'"),
        ("steps=", "'steps' is of type int; got ''"),
        ("rate=fast", "'rate' is of type float; got 'fast'"),
        ("smoke=yes", "'smoke' is of type bool; got 'yes'"),
    ],
)
def test_an_argument_that_does_not_parse(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_arguments(text, steps=1, rate=0.5, smoke=False)


def test_a_bare_key_is_for_flags_only():
    with pytest.raises(ConfigError, match=r"'stage' takes a value, stage=...; got none"):
        parse_arguments("stage", stage="student")


@pytest.mark.parametrize("stage", ["teacher", "pretrain", "student"])
@pytest.mark.parametrize("smoke", ["", ",smoke"])
def test_every_stage_of_digits_resolves_to_what_it_says(stage, smoke):
    raw = digits.get_config(f"stage={stage}{smoke}")
    assert json.loads(to_json(resolve(raw))) == json.loads(json.dumps(raw.to_dict()))


def test_digits_is_the_student_unless_told():
    assert digits.get_config().to_dict() == digits.get_config("stage=student").to_dict()
    with pytest.raises(ValueError, match="stage is one of teacher, pretrain, student; got 'x'"):
        digits.get_config("stage=x")


def test_smoke_is_a_few_steps():
    for stage in ("teacher", "pretrain", "student"):
        assert resolve(digits.get_config(f"stage={stage},smoke")).steps == 4


@pytest.mark.parametrize("key", keys_of(STUDENT))
def test_a_missing_key_is_named(key):
    with pytest.raises(ConfigError, match=rf"missing: {key.split('.')[-1]}; unknown: none\."):
        resolve(edited(key))


@pytest.mark.parametrize("key", ["extra", "data.extra", "optim.extra", "teachers.wide_cnn.extra"])
def test_an_unknown_key_is_named(key):
    block = ".".join(["config", *key.split(".")[:-1]])
    with pytest.raises(ConfigError, match=f"^{block} has exactly.*missing: none; unknown: extra"):
        resolve(edited(key, 1))


@pytest.mark.parametrize("key", keys_of(STUDENT))
def test_a_value_of_another_type_is_named(key):
    with pytest.raises(ConfigError, match=rf"^config\.{key} is .*; got <object"):
        resolve(edited(key, object()))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", True, "config.steps is of type int; got True of type bool"),
        ("steps", 4.0, "config.steps is of type int; got 4.0 of type float"),
        ("beta", True, "config.beta is of type float; got True of type bool"),
        ("beta", "1", "config.beta is of type float; got '1' of type str"),
        ("compare.seeds", (0, "1"), r"config.compare.seeds\[1\] is of type int; got '1'"),
        ("compare.betas", 3.0, r"config.compare.betas is of type tuple\[float, ...\]; got 3.0"),
        ("teachers", {"a": 1}, "config.teachers.a is a block of keys; got 1"),
        (
            "method_options",
            [],
            r"config.method_options is of type dict\[str, typing.Any\]; got \[\]",
        ),
    ],
)
def test_near_misses_of_type(key, value, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        resolve(edited(key, value))


def test_whole_numbers_are_floats_where_floats_are_due():
    beta = resolve(edited("beta", 3)).beta
    assert (beta, type(beta)) == (3.0, float)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch_size", 0, "config.batch_size is at least 1; got 0"),
        ("steps", -1, "config.steps is at least 1; got -1"),
        ("log_every", 0, "config.log_every is at least 1; got 0"),
        ("eval_every", 0, "config.eval_every is at least 1; got 0"),
        ("checkpoint_every", 0, "config.checkpoint_every is at least 1; got 0"),
        ("eval_every", 3, "config.eval_every is a multiple of config.log_every.*; got 3 and 2"),
        ("checkpoint_every", 5, "config.checkpoint_every is a multiple .*; got 5 and 2"),
        ("beta", -0.5, "config.beta is finite and not negative; got -0.5"),
        ("beta", math.nan, "config.beta is finite and not negative; got nan"),
        ("optim.warmup_steps", 5, "config.optim.warmup_steps is at most config.steps; got 5 and 4"),
        ("compare.search_seeds", (1, 7), r"share none.*judge it; got \[1\] in both"),
        ("data.name", "a/b", r"config\.data\.name is a name for stores.*; got 'a/b'"),
        ("data.on_error", "ignore", r"config\.data\.on_error is one of 'raise', 'skip'; got 'ig"),
        ("data.tune_fraction", 0.1, r"is 0 where config\.data\.tune names a split; got 0\.1 with"),
        ("data.tune", "", r"config\.data\.tune_fraction is between 0 and 1.*; got 0\.0 with"),
        ("inputs.kind", "sound", r"config\.inputs\.kind is one of 'array', 'image'.*'sound'"),
        ("inputs.kind", "text", r"config\.inputs\.tokenizer is the directory or hub id"),
        ("inputs.mean", (0.5,), r"config\.inputs\.mean has a number for red, green and blue; got"),
        ("inputs.std", (1.0, 1.0, 0.0), r"config\.inputs\.std is positive; got"),
        ("inputs.buckets", (64, 32, 128), r"buckets are rising lengths .*max_length; got \(64"),
        ("inputs.buckets", (32, 64), r"buckets are rising lengths .*; got \(32, 64\) and 128"),
        ("features.residency", "gpu", r"residency is one of 'auto', 'device', 'host', 'stream'"),
        ("features.process", 1, r"features\.process counts from 0 below.*; got 1 of 1"),
        ("augment.min_area", 0.0, r"config\.augment\.min_area is a share, above 0 and at most 1"),
        ("views", -2, r"config\.views is -1, 0 or a number of stored views; got -2"),
        ("views", 2, r"config\.views is 0 where inputs are no images; got 2 with .*'array'"),
        (
            "teachers.wide_cnn.dtype",
            "int8",
            r"config\.teachers\.wide_cnn\.dtype is one of 'float32",
        ),
    ],
)
def test_every_rule_has_its_message(key, value, message):
    with pytest.raises(ConfigError, match=message):
        resolve(edited(key, value))


@pytest.mark.parametrize(
    "key", ["learning_rate", "weight_decay", "scales_learning_rate", "warmup_steps"]
)
def test_rates_are_finite_and_not_negative(key):
    value = -1 if key == "warmup_steps" else math.inf
    with pytest.raises(ConfigError, match=rf"config\.optim\.{key} is finite and not negative"):
        resolve(edited(f"optim.{key}", value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("devices", -1),
        ("compare.seeds", ()),
        ("compare.seeds", (0, 0)),
        ("compare.search_seeds", (-5,)),
        ("compare.betas", ()),
        ("compare.betas", (-3.0,)),
        ("compare.betas", (math.nan,)),
        ("compare.methods", ()),
    ],
)
def test_what_no_run_can_use_is_refused(key, value):
    with pytest.raises(ConfigError, match=rf"config\.{key}"):
        resolve(edited(key, value))


def test_json_round_trip():
    config = resolve(STUDENT)
    assert resolve(json.loads(to_json(config))) == config


@pytest.mark.parametrize("value", [((1, 2), (3,)), {"widths": (1, 2)}])
def test_json_round_trip_of_nested_options(value):
    config = resolve(edited("student.options.stages", value))
    assert resolve(json.loads(to_json(config))) == config


def test_differing_keys_have_dotted_names_and_both_values():
    old = resolve(STUDENT)
    changed = edited("optim.learning_rate", 0.5)
    changed["student"]["options"]["dropout"] = 0.1
    changed["teachers"]["second"] = teacher("flax", "elsewhere")
    added = {f"teachers.second.{key}": (None, value) for key, value in teacher("flax", "").items()}
    assert differing_keys(old, resolve(changed)) == added | {
        "optim.learning_rate": (0.03, 0.5),
        "student.options.dropout": (None, 0.1),
        "teachers.second.source": (None, "elsewhere"),
    }
    assert differing_keys(old, old) == {}


def test_a_block_that_becomes_empty_differs():
    old, new = resolve(STUDENT), resolve(edited("student.options", {}))
    assert set(differing_keys(old, new)) == {
        "student.options",
        "student.options.strides",
        "student.options.widths",
    }
