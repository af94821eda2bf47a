import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.data import load_split
from aft_jax.errors import UsageError
from aft_jax.training import evaluate, load_predictions, train
from aft_jax.training.batches import read_by_student
from aft_jax.training.evaluate import evaluate_on, predict_on
from aft_jax.training.experiment import build, initial_state
from aft_jax.training.predictions import Predictions, predictions_file, save_predictions
from aft_jax.training.step import row_predictions


def made(**changes) -> Predictions:
    whole = Predictions(
        ids=np.array(["a", "b", "c"]),
        labels=np.array([1, -1, 0], np.int32),
        predicted=np.array([1, 1, 1], np.int32),
        confidence=np.array([0.75, 0.5, 0.5], np.float32),
        label_log_probability=np.array([-0.25, np.nan, -1.5], np.float32),
    )
    return whole._replace(**changes)


def test_a_row_in_closed_form():
    # Logits log 1 and log 3 are the probabilities 1/4 and 3/4.
    logits = jnp.log(jnp.array([[1.0, 3.0], [3.0, 1.0], [1.0, 1.0]]))
    rows = row_predictions(logits, jnp.array([0, 0, -1]))
    np.testing.assert_array_equal(rows.predicted, [1, 0, 0])
    np.testing.assert_allclose(rows.confidence, [0.75, 0.75, 0.5], rtol=1e-6)
    expected = [math.log(0.25), math.log(0.75), math.log(0.5)]
    np.testing.assert_allclose(rows.label_log_probability, expected, rtol=1e-6)


def test_logits_of_half_precision_and_large_ones_stay_finite():
    logits = jnp.array([[1e4, -1e4], [0.0, 0.0]], jnp.bfloat16)
    rows = row_predictions(logits, jnp.array([1, 0]))
    assert rows.confidence.dtype == rows.label_log_probability.dtype == jnp.float32
    assert np.isfinite(rows.label_log_probability).all()
    np.testing.assert_allclose(rows.confidence, [1.0, 0.5])


@pytest.mark.parametrize("devices", [1, 8])
def test_predictions_are_the_metrics_row_by_row(config, devices):
    """The mean over the rows is what `evaluate_on` counts; batches of 40 leave padded rows."""
    config = dataclasses.replace(config, devices=devices)
    experiment = build(config)
    variables = initial_state(experiment, 3).variables
    test = load_split(config.data, "test")
    assert len(test) % config.batch_size
    read = read_by_student(config, test)
    values, rows = predict_on(experiment.eval_step, variables, read, 40, experiment.mesh)
    assert values == evaluate_on(experiment.eval_step, variables, read, 40, experiment.mesh)
    np.testing.assert_array_equal(rows.ids, test.ids)
    np.testing.assert_array_equal(rows.labels, test.labels)
    assert values["accuracy"] == float(np.mean(rows.predicted == rows.labels))
    assert values["loss"] == pytest.approx(-np.mean(rows.label_log_probability), rel=1e-5)
    inputs = jax.tree.map(jnp.asarray, read.inputs(np.arange(len(test))))
    logits = experiment.student.apply(variables, inputs, False, {})[0].logits
    chances = jax.nn.softmax(logits)
    np.testing.assert_allclose(rows.confidence, chances.max(axis=1), rtol=1e-4)
    assert np.mean(rows.predicted == np.argmax(logits, axis=1)) > 0.99  # but for ties


def test_unlabelled_rows_are_predicted_and_not_counted():
    assert made().labelled.tolist() == [True, False, True]
    assert made().correct.tolist() == [True, False]


def test_the_verb_writes_what_it_counts(config, tmp_path):
    train(dataclasses.replace(config, method="stl", steps=2), tmp_path)
    values = evaluate(tmp_path, "test")
    rows = load_predictions(tmp_path, "test")
    assert rows.correct.mean() == values["accuracy"]
    kinds = {name: array.dtype for name, array in rows._asdict().items() if name != "ids"}
    assert kinds == {
        "labels": np.int32,
        "predicted": np.int32,
        "confidence": np.float32,
        "label_log_probability": np.float32,
    }


def test_what_is_saved_is_what_is_loaded(tmp_path):
    save_predictions(made(), tmp_path, "tune")
    loaded = load_predictions(tmp_path, "tune")
    for name, array in made()._asdict().items():
        np.testing.assert_array_equal(getattr(loaded, name), array)


def test_a_missing_file_names_the_command_that_writes_it(tmp_path):
    with pytest.raises(UsageError, match=r"it is missing\. `aft-jax evaluate .* --split=test`"):
        load_predictions(tmp_path, "test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.zeros(2, np.int32)}, r"damaged: labels holds one .* 3 examples; got int32"),
        ({"predicted": np.zeros(3)}, r"damaged: predicted .* of kind 'i' .* got float64"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, changes, message):
    save_predictions(made(**changes), tmp_path, "test")
    with pytest.raises(UsageError, match=message):
        load_predictions(tmp_path, "test")


def test_a_cut_file_and_a_file_without_a_column_are_refused(tmp_path):
    path = save_predictions(made(), tmp_path, "test")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UsageError, match="is damaged: "):
        load_predictions(tmp_path, "test")
    np.savez(predictions_file(tmp_path, "test"), ids=np.array(["a"]))
    with pytest.raises(UsageError, match=r"is damaged: .*labels"):
        load_predictions(tmp_path, "test")
