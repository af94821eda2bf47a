"""Rows without label, rows without features: what each of them enters, and what it does not."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aft_jax.config import resolve
from aft_jax.config.defaults import base_config, teacher
from aft_jax.data import RowOrder, take
from aft_jax.errors import DataError, StoreError
from aft_jax.features import extract, load_features, open_store, store_path, write_store
from aft_jax.training import build, evaluate, train
from aft_jax.training.batches import read_by_student, train_batch
from aft_jax.training.evaluate import evaluate_on
from aft_jax.training.experiment import initial_state
from aft_jax.training.metrics import read_metrics
from aft_jax.training.sharding import row_sharded
from aft_jax.training.step import objective
from aft_jax.types import StudentOutput
from tests import reference

ROWS, WIDTH, BETA = 12, 5, 7.0
LABELS = np.array([0, 1, -1, 1, 0, -1, 1, 0, 0, -1, 1, 0])
LABELLED = LABELS >= 0


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Arrays of which every third has no label, the whole split a batch; stores are there."""
    root = tmp_path_factory.mktemp("unlabelled")
    arrays = {}
    for number, split in enumerate(("train", "tune", "test")):
        values = np.random.default_rng(number).normal(size=(ROWS, 4, 4, 1)).astype(np.float32)
        arrays |= {f"{split}/array": values, f"{split}/label": LABELS}
        arrays[f"{split}/id"] = np.array([f"{split}{row}" for row in range(ROWS)])
    arrays["test/label"] = np.full(ROWS, -1)
    np.savez(root / "set.npz", **arrays)
    raw: Any = base_config()
    raw.data.update({"name": "some", "source": "arrays", "path": str(root / "set.npz")})
    raw.student.options = {"widths": (4,), "strides": (2,)}
    raw.teachers.noise = teacher("random", "", options={"width": WIDTH, "seed": 0})
    raw.features.update({"directory": str(root / "features"), "residency": "host"})
    raw.update({"method": "aft", "beta": BETA, "batch_size": ROWS, "steps": 2, "devices": 1})
    raw.update({"log_every": 2, "eval_every": 2, "checkpoint_every": 2})
    resolved = resolve(raw)
    extract(resolved)
    return resolved


@pytest.fixture(scope="module")
def experiment(config):
    return build(config)


def batch_of(experiment):
    order = RowOrder(ROWS, ROWS, seed=0)
    sharding = row_sharded(experiment.mesh)
    return train_batch(experiment.train, experiment.features, order, 0, 0, sharding)


def by_hand(logits, labels):
    """Mean cross-entropy and the number of right answers over rows with label, in float64."""
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    rows = np.flatnonzero(labels >= 0)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    right = np.sum(logits.argmax(axis=1)[rows] == labels[rows])
    return -np.mean(log_softmax[rows, labels[rows]]), int(right)


def forward_of(experiment, state, batch):
    apply = experiment.student.apply
    return jax.jit(lambda variables, inputs: apply(variables, inputs, False, {})[0])(
        state.variables, batch.inputs
    )


def objective_of(experiment, state, output, batch):

    @jax.jit
    def compute(params, output, batch):
        return objective(experiment.regularizer, params, output, batch, jnp.float32(BETA))

    return compute(state.regularizer, output, batch)


def test_unlabelled_rows_enter_the_kernel_and_nothing_else(experiment):
    state, batch = initial_state(experiment, seed=0), batch_of(experiment)
    assert np.count_nonzero(np.asarray(batch.labels) < 0) == 3
    output = forward_of(experiment, state, batch)
    loss, metrics = objective_of(experiment, state, output, batch)
    task, right = by_hand(output.logits, batch.labels)
    kernel = reference.aft_loss(
        [np.zeros(WIDTH)], output.features, [np.asarray(batch.teacher_features["noise"])]
    )
    assert float(loss) == pytest.approx(task + BETA * kernel, rel=1e-5)
    assert [float(x) for x in metrics["accuracy"]] == [right, 9]
    assert [float(x) for x in metrics["task_loss"]] == [pytest.approx(9 * task, rel=1e-5), 9]
    assert [float(x) for x in metrics["rows_with_features"]] == [12, 12]
    assert float(metrics["loss"][0] / metrics["loss"][1]) == pytest.approx(float(loss), rel=1e-6)


def test_gradients_reach_unlabelled_rows_through_their_features_alone(experiment):
    state, batch = initial_state(experiment, seed=0), batch_of(experiment)

    def loss_of(output):
        return objective_of(experiment, state, output, batch)[0]

    grads = jax.grad(loss_of)(forward_of(experiment, state, batch))
    labelled = np.asarray(batch.labels) >= 0
    assert not np.any(np.asarray(grads.logits)[~labelled])
    assert np.all(np.any(np.asarray(grads.logits)[labelled], axis=1))
    assert np.all(np.any(np.asarray(grads.features), axis=1))


def test_what_an_unlabelled_row_predicts_changes_nothing(experiment):
    state, batch = initial_state(experiment, seed=0), batch_of(experiment)
    output = forward_of(experiment, state, batch)
    wild = jnp.where((batch.labels < 0)[:, None], jnp.float32(1e6), output.logits)
    same, other = (
        objective_of(experiment, state, each, batch)
        for each in (output, StudentOutput(wild, output.features))
    )
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_batch_without_any_label_trains_by_the_kernel_alone(experiment):
    state, batch = initial_state(experiment, seed=0), batch_of(experiment)
    batch = batch._replace(labels=jnp.full_like(batch.labels, -1))
    before = jax.device_get(state.variables)
    kernel = reference.aft_loss(
        [np.zeros(WIDTH)],
        forward_of(experiment, state, batch).features,
        [np.asarray(batch.teacher_features["noise"])],
    )
    after, metrics = experiment.train_step(state, batch, jnp.float32(BETA), jax.random.key(0))
    loss, rows = (float(x) for x in metrics["loss"])
    assert (loss / rows, rows) == (pytest.approx(BETA * kernel, rel=1e-5), ROWS)
    assert [float(x) for x in metrics["task_loss"]] == [0, 0]
    assert all(
        np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(jax.device_get(after.opt_state))
    )
    head = ("params", "head", "kernel")
    np.testing.assert_array_equal(at(after.variables, head), at(before, head))
    body = ("params", "Conv_0", "kernel")
    assert np.any(np.asarray(at(after.variables, body)) != at(before, body))


def at(tree, path):
    for name in path:
        tree = tree[name]
    return tree


def test_evaluation_leaves_unlabelled_rows_out(config, experiment):
    variables, tune = initial_state(experiment, seed=0).variables, experiment.tune
    labelled = take(tune.dataset, np.flatnonzero(tune.dataset.labels >= 0))

    def measured(data):
        rows, mesh = experiment.config.batch_size, experiment.mesh
        return evaluate_on(experiment.eval_step, variables, data, rows, mesh)

    whole = measured(tune)
    assert whole == pytest.approx(measured(read_by_student(config, labelled)), rel=1e-6)
    rows = tune.inputs(np.arange(ROWS))
    logits = experiment.student.apply(variables, jnp.asarray(rows), False, {})[0].logits
    loss, right = by_hand(logits, tune.dataset.labels)
    assert whole == {"loss": pytest.approx(loss, rel=1e-5), "accuracy": pytest.approx(right / 9)}


def test_a_run_with_unlabelled_rows_logs_the_means_over_labelled_ones(config, tmp_path):
    train(config, tmp_path)
    line = next(line for line in read_metrics(tmp_path) if line["split"] == "train")
    assert line["loss"] == pytest.approx(line["task_loss"] + BETA * line["regularizer"], rel=1e-5)
    assert line["accuracy"] * 2 * 9 == pytest.approx(round(line["accuracy"] * 2 * 9))
    assert line["rows_with_features"] == 1


def test_a_split_without_any_label_cannot_be_evaluated(config, tmp_path):
    train(config, tmp_path)
    with pytest.raises(DataError, match="label"):
        evaluate(tmp_path, "test")


@pytest.fixture(scope="module")
def partial(config, experiment, tmp_path_factory):
    """A store that lacks the examples 0, 4 and 9, and which rows those are."""
    whole = open_store(store_path(config, "noise", "train"), {})
    present = np.array([row not in (0, 4, 9) for row in range(ROWS)])
    path = str(tmp_path_factory.mktemp("partial") / "store")
    fields = dataclasses.asdict(whole.manifest)
    told = {name: fields[name] for name in fields if name.startswith(("teacher_", "dataset_"))}
    del told["dataset_rows"], told["dataset_ids_sha256"]
    rows = whole.rows().read_all()[present]
    same = {"preprocessing": whole.manifest.preprocessing, "pooling": whole.manifest.pooling}
    # Found by id: the store has its rows in another order than the split.
    write_store(path, whole.ids[present][::-1], [rows[::-1]], WIDTH, **told, **same)
    assert experiment.train.dataset.ids.tolist() == whole.ids.tolist()
    return open_store(path, {}), present


def skipping(experiment, partial, residency):
    features = load_features(
        {"noise": partial[0]},
        experiment.train.dataset.ids,
        residency=residency,
        missing="skip",
        sharding=row_sharded(experiment.mesh),
    )
    return dataclasses.replace(experiment, features=features)


@pytest.mark.parametrize("residency", ["device", "host", "stream"])
def test_rows_without_features_train_without_the_regularizer(experiment, partial, residency):
    skipping_some = skipping(experiment, partial, residency)
    batch = batch_of(skipping_some)
    present = partial[1][RowOrder(ROWS, ROWS, seed=0).batch(0)]
    np.testing.assert_array_equal(batch.feature_mask, present.astype(np.float32))
    state = initial_state(experiment, seed=0)
    expected, grads = jax.jit(jax.value_and_grad(sliced_loss(experiment, present)))(
        state.variables, batch
    )

    def loss_of(variables, batch):
        output = experiment.student.apply(variables, batch.inputs, True, {})[0]
        return objective_of(experiment, initial_state(experiment, seed=0), output, batch)[0]

    found = jax.jit(jax.grad(loss_of))(state.variables, batch)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    _, metrics = experiment.train_step(state, batch, jnp.float32(BETA), jax.random.key(0))
    total, rows = (float(x) for x in metrics["loss"])
    assert total / rows == pytest.approx(float(expected), rel=1e-5)
    assert [float(x) for x in metrics["rows_with_features"]] == [9, 12]


def sliced_loss(experiment, present):
    """Cross-entropy over all labelled rows; the kernel over the rows that are present alone."""
    scales, rows = initial_state(experiment, seed=0).regularizer, np.flatnonzero(present)

    def loss(variables, batch):
        output = experiment.student.apply(variables, batch.inputs, True, {})[0]
        labelled = (batch.labels >= 0).astype(jnp.float32)
        picked = jnp.take_along_axis(
            jax.nn.log_softmax(output.logits), jnp.maximum(batch.labels, 0)[:, None], axis=1
        )[:, 0]
        task = -jnp.sum(picked * labelled) / jnp.sum(labelled)
        named = {name: x[rows] for name, x in batch.teacher_features.items()}
        return task + BETA * experiment.regularizer.apply(scales, output.features[rows], named)[0]

    return loss


def test_what_stands_in_for_absent_features_is_not_read(experiment, partial):
    batch = batch_of(skipping(experiment, partial, "host"))
    absent = (batch.feature_mask == 0)[:, None]
    named = {name: jnp.where(absent, 1e3, x) for name, x in batch.teacher_features.items()}
    state = initial_state(experiment, seed=0)
    output = forward_of(experiment, state, batch)
    losses = [
        objective_of(experiment, state, output, each)[0]
        for each in (batch, batch._replace(teacher_features=named))
    ]
    assert losses[0] == losses[1]


def test_rows_without_features_are_an_error_by_default(experiment, partial):
    with pytest.raises(StoreError, match=r"3 of 12 have none in .*'train0', 'train4', 'train9'"):
        load_features(
            {"noise": partial[0]},
            experiment.train.dataset.ids,
            residency="host",
            missing="error",
            sharding=row_sharded(experiment.mesh),
        )


def test_skipping_works_from_the_config_on(config, tmp_path):
    """Two examples were added to the data after the extraction."""
    with np.load(config.data.path) as stored:
        arrays = dict(stored)
    for name, more in {
        "array": np.ones((2, 4, 4, 1), np.float32),
        "label": np.array([0, 1]),
    }.items():
        arrays[f"train/{name}"] = np.concatenate([arrays[f"train/{name}"], more])
    arrays["train/id"] = np.append(arrays["train/id"], ["new0", "new1"])
    np.savez(tmp_path / "grown.npz", **arrays)
    grown = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, path=str(tmp_path / "grown.npz")),
        features=dataclasses.replace(config.features, missing="skip"),
        batch_size=ROWS + 2,
    )
    train(grown, tmp_path / "run")
    line = next(line for line in read_metrics(tmp_path / "run") if line["split"] == "train")
    assert line["rows_with_features"] == pytest.approx(12 / 14)
    assert json.loads((tmp_path / "run/result.json").read_text())["step"] == 2
