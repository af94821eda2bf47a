"""Metrics: sums over sums, and files that a kill and a resume leave whole."""

import json
import math
import struct

import jax.numpy as jnp
import pytest
from tensorboardX.proto import event_pb2

from aft_jax.training.metrics import MetricsWriter, mean, read_metrics

Event = vars(event_pb2)["Event"]  # protobuf makes the class when the module is imported


def lines(steps):
    return [{"step": step, "split": "train", "loss": 1.0 / step} for step in steps]


def write_lines(workdir, steps, cut_last=""):
    text = "".join(json.dumps(line) + "\n" for line in lines(steps))
    (workdir / "metrics.jsonl").write_text(text + cut_last)


def scalars(workdir):
    """(step, tag) -> value; a file is records of length, checksum, event, checksum."""
    found = {}
    for path in sorted((workdir / "tensorboard").iterdir()):
        content, start = path.read_bytes(), 0
        while start < len(content):
            (length,) = struct.unpack_from("<Q", content, start)
            event = Event.FromString(content[start + 12 : start + 12 + length])
            found |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
            start += 16 + length
    return found


def test_sums_are_divided_once():
    """9 of 10 right, then 0 of 2: 0.75, where the average of the averages is 0.45."""
    states = [
        {"accuracy": (jnp.float32(9), jnp.float32(10)), "loss": (jnp.float32(5), jnp.float32(10))},
        {"accuracy": (jnp.float32(0), jnp.float32(2)), "loss": (jnp.float32(1), jnp.float32(2))},
    ]
    assert mean(states) == {"accuracy": 0.75, "loss": 0.5}


def test_sums_are_kept_in_double_precision():
    states = [{"loss": (jnp.float32(2**24), jnp.float32(1))}] + [
        {"loss": (jnp.float32(1), jnp.float32(1))} for _ in range(3)
    ]
    assert mean(states) == {"loss": (2**24 + 3) / 4}


def test_no_states_and_no_rows():
    assert mean([]) == {}
    assert mean([{"loss": (jnp.float32(0), jnp.float32(0))}]) == {"loss": 0.0}


def test_a_count_below_one_is_divided_by():
    assert mean([{"loss": (jnp.float32(0.5), jnp.float32(0.5))}]) == {"loss": 1.0}


def test_a_line_is_written_at_once_and_read_back(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    writer.write(2, "train", {"loss": 0.5})
    expected = [{"step": 2, "split": "train", "loss": 0.5}]
    assert read_metrics(tmp_path) == expected
    writer.write(2, "tune", {"accuracy": 0.25})
    writer.close()
    assert read_metrics(tmp_path) == [*expected, {"step": 2, "split": "tune", "accuracy": 0.25}]


def test_lines_beyond_the_resume_step_are_dropped(tmp_path):
    write_lines(tmp_path, [2, 4, 6, 8])
    writer = MetricsWriter(tmp_path, 4)
    assert read_metrics(tmp_path) == lines([2, 4])
    writer.write(6, "train", {"loss": 7.0})
    writer.close()
    assert read_metrics(tmp_path) == [*lines([2, 4]), {"step": 6, "split": "train", "loss": 7.0}]
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "tensorboard"}


def test_a_run_that_starts_again_keeps_nothing(tmp_path):
    write_lines(tmp_path, [2, 4])
    MetricsWriter(tmp_path, 0).close()
    assert read_metrics(tmp_path) == []


@pytest.mark.parametrize("cut", ['{"step": 4, "spl', '{"step": 4, "split": "train"}', "{"])
def test_a_last_line_that_a_kill_cut_short_is_no_line(tmp_path, cut):
    write_lines(tmp_path, [2], cut_last=cut)
    assert read_metrics(tmp_path) == lines([2])
    writer = MetricsWriter(tmp_path, 4)
    writer.write(6, "train", {"loss": 1.0 / 6})
    writer.close()
    assert read_metrics(tmp_path) == lines([2, 6])


def test_tensorboard_has_the_same_values(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    writer.write(2, "train", {"loss": 0.5, "accuracy": 0.25})
    writer.write(4, "tune", {"loss": 0.125})
    writer.close()
    assert scalars(tmp_path) == {
        (2, "train/loss"): 0.5,
        (2, "train/accuracy"): 0.25,
        (4, "tune/loss"): 0.125,
    }


def test_values_that_are_not_finite_are_kept(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    writer.write(2, "train", {"loss": math.inf})
    writer.close()
    assert read_metrics(tmp_path)[0]["loss"] == math.inf
