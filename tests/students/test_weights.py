"""Weights on disk: bit for bit what was saved, or a refusal."""

import json

import ml_dtypes
import numpy as np
import pytest

from aft_jax.config import read_inputs
from aft_jax.config.defaults import base_config
from aft_jax.errors import UsageError
from aft_jax.students import load_student, save_student, weights, with_pretrained_body

CLASSES = ("a", "b", "c")
INPUTS = read_inputs(base_config().inputs.to_dict())
OPTIONS = {"widths": [4, 6], "strides": [1, 2]}


def variables_of(seed, classes=3):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return {
        "params": {
            "Conv_0": {"kernel": normal(3, 3, 1, 4)},
            "head": {"kernel": normal(4, classes), "bias": normal(classes)},
        },
        "batch_stats": {"norm": {"mean": normal(4)}},
    }


def assert_same_bits(actual, expected):
    assert actual.keys() == expected.keys()
    for name, leaf in expected.items():
        if isinstance(leaf, dict):
            assert_same_bits(actual[name], leaf)
        else:
            assert (actual[name].shape, actual[name].dtype) == (leaf.shape, leaf.dtype)
            assert actual[name].tobytes() == leaf.tobytes()


@pytest.fixture
def run(tmp_path):
    """A run directory with a saved student."""
    save_student(tmp_path, "small_cnn", CLASSES, OPTIONS, INPUTS, variables_of(0))
    return tmp_path


def test_round_trip(run):
    saved = load_student(run)
    assert (saved.name, saved.classes, saved.options) == ("small_cnn", CLASSES, OPTIONS)
    assert saved.inputs == INPUTS
    assert_same_bits(saved.variables, variables_of(0))


@pytest.mark.parametrize(
    "leaf",
    [
        np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
        np.arange(6, dtype=np.int32).reshape(2, 3).T,  # not contiguous
        np.zeros((0, 3), np.float32),
        np.array([[1.5, -2.0], [np.nan, 1e-40]], ml_dtypes.bfloat16),
        np.array(2.5, np.float32),
        np.array([1 + 2.0**-52]),
        np.array([True, False]),
    ],
    ids=["special", "transposed", "empty", "bfloat16", "scalar", "float64", "bool"],
)
def test_round_trip_of_any_array(tmp_path, leaf):
    save_student(tmp_path, "small_cnn", CLASSES, {}, INPUTS, {"params": {"leaf": leaf}})
    assert_same_bits(load_student(tmp_path).variables, {"params": {"leaf": leaf}})


def test_the_same_weights_have_the_same_hash(run, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    save_student(other, "small_cnn", CLASSES, OPTIONS, INPUTS, variables_of(0))
    assert load_student(other).sha256 == load_student(run).sha256
    save_student(other, "small_cnn", CLASSES, OPTIONS, INPUTS, variables_of(1))
    assert load_student(other).sha256 != load_student(run).sha256


@pytest.mark.parametrize("position", [0, 100, -1])
def test_a_damaged_file_is_refused(run, position):
    path = run / "student" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"has the hash recorded.*damaged or was replaced"):
        load_student(run)


def test_a_run_without_a_student_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"a finished run has a student/ folder; .* has none"):
        load_student(tmp_path)


def test_a_student_without_weights_is_refused(run):
    (run / "student" / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"model\.safetensors is missing\. Copy"):
        load_student(run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not a student's description: Expecting"),
        (b"[]", "is not a student's description: 'list'"),
        (b"\xff\xfe", "is not a student's description: 'utf-8'"),
        (b"{}", r"holds exactly name \(str\).*; found nothing"),
        (b'{"name": "small_cnn"}', r"holds exactly .*sha256 \(str\); found name \(str\)\."),
    ],
)
def test_a_damaged_description_is_refused(run, content, message):
    (run / "student" / "student.json").write_bytes(content)
    with pytest.raises(UsageError, match=rf"student\.json {message}"):
        load_student(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", None), ("classes", "3"), ("options", []), ("inputs", 1), ("sha256", 0)],
)
def test_a_description_with_values_of_another_type_is_refused(run, key, value):
    path = run / "student" / "student.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    message = rf"student\.json holds exactly .*; found .*{key} \({type(value).__name__}\)"
    with pytest.raises(UsageError, match=message):
        load_student(run)


class Killed(BaseException):
    """Ends a save as SIGKILL would: nothing catches it."""


@pytest.fixture
def killed_before_the_description(monkeypatch):
    write_whole = weights.write_whole

    def write(path, content):
        if path.name == "student.json":
            raise Killed("killed")
        write_whole(path, content)

    monkeypatch.setattr(weights, "write_whole", write)


@pytest.mark.usefixtures("killed_before_the_description")
def test_a_first_save_that_was_killed_is_no_student(tmp_path):
    with pytest.raises(Killed, match="killed"):
        save_student(tmp_path, "small_cnn", CLASSES, OPTIONS, INPUTS, variables_of(0))
    assert (tmp_path / "student" / "model.safetensors").exists()
    with pytest.raises(UsageError, match="has none"):
        load_student(tmp_path)


def test_weights_newer_than_their_description_are_refused(run, killed_before_the_description):
    with pytest.raises(Killed, match="killed"):
        save_student(run, "small_cnn", CLASSES, OPTIONS, INPUTS, variables_of(1))
    described = json.loads((run / "student" / "student.json").read_text())["sha256"]
    with pytest.raises(UsageError, match=f"expected {described}, found"):
        load_student(run)


def test_the_head_is_new_and_the_body_is_kept(run):
    fresh, kept = variables_of(1, classes=7), variables_of(0)
    start = with_pretrained_body(fresh, load_student(run), "small_cnn", OPTIONS, INPUTS)
    expected = {**kept, "params": {**kept["params"], "head": fresh["params"]["head"]}}
    assert_same_bits(start, expected)


def test_a_head_of_the_same_size_is_new_too(run):
    fresh = variables_of(1)
    start = with_pretrained_body(fresh, load_student(run), "small_cnn", OPTIONS, INPUTS)
    assert_same_bits(start["params"]["head"], fresh["params"]["head"])


def test_a_body_of_another_shape_is_refused_by_path(run):
    fresh = variables_of(1)
    fresh["params"]["Conv_0"]["kernel"] = np.zeros((3, 3, 1, 5), np.float32)
    with pytest.raises(
        UsageError,
        match=r"mis-shaped: \['params/Conv_0/kernel'\], not used here: none\..*as small_cnn with",
    ):
        with_pretrained_body(fresh, load_student(run), "small_cnn", OPTIONS, INPUTS)


def test_layers_that_only_one_side_has_are_refused_by_path(run):
    fresh = variables_of(1)
    fresh["params"]["Conv_1"] = fresh["params"].pop("Conv_0")
    with pytest.raises(
        UsageError, match=r"\['params/Conv_1/kernel'\], not used here: \['params/Conv_0/kernel'\]"
    ):
        with_pretrained_body(fresh, load_student(run), "small_cnn", OPTIONS, INPUTS)


def test_a_body_layer_named_head_is_kept(tmp_path):
    body = {"params": {"attention": {"head": {"kernel": np.ones((2, 2), np.float32)}}}}
    save_student(tmp_path, "small_cnn", CLASSES, {}, INPUTS, body)
    fresh = {"params": {"attention": {"head": {"kernel": np.zeros((2, 2), np.float32)}}}}
    start = with_pretrained_body(fresh, load_student(tmp_path), "small_cnn", {}, INPUTS)
    assert_same_bits(start, body)


def test_statistics_of_a_layer_named_head_are_the_bodys(tmp_path):
    body = {"batch_stats": {"head": {"mean": np.ones(2, np.float32)}}, "params": {}}
    save_student(tmp_path, "small_cnn", CLASSES, {}, INPUTS, body)
    fresh = {"batch_stats": {"head": {"mean": np.zeros(2, np.float32)}}}
    start = with_pretrained_body(fresh, load_student(tmp_path), "small_cnn", {}, INPUTS)
    assert_same_bits(start["batch_stats"], body["batch_stats"])


def test_options_are_compared_as_saved(run):
    options = {"strides": (1, 2), "widths": (4, 6)}
    start = with_pretrained_body(variables_of(1), load_student(run), "small_cnn", options, INPUTS)
    assert_same_bits(start["params"]["Conv_0"], variables_of(0)["params"]["Conv_0"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("small_cnn", OPTIONS | {"strides": [2, 2]}, r"\[2, 2\].* was saved as .*\[1, 2\]"),
        ("large_cnn", OPTIONS, "large_cnn with .* was saved as small_cnn with"),
    ],
)
def test_a_body_that_computes_something_else_is_refused(run, name, options, message):
    """Strides leave no trace in the shapes."""
    with pytest.raises(UsageError, match=message):
        with_pretrained_body(variables_of(1), load_student(run), name, options, INPUTS)
