"""Under `official_quirks` a run trains as the published code does: proved by a loop in torch."""

import dataclasses
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from aft_jax.config import resolve, to_json
from aft_jax.errors import ConfigError
from aft_jax.losses.regularizer import make_regularizer
from aft_jax.training import build, train
from aft_jax.training.checkpoint import Checkpoints
from aft_jax.training.experiment import initial_state
from aft_jax.training.metrics import read_metrics
from aft_jax.training.protocol import make_protocol
from aft_jax.training.quirks import epoch_cosine, whole_epochs
from aft_jax.types import FeatureSpec, StudentOutput
from tests.training.conftest import stage

RATE, SCALES_RATE, DECAY, BETA = 0.05, 0.02, 0.01, 3.0
ROWS, BATCH, EPOCHS = 101, 50, 3  # batches of 50, 50 and 1 rows


class Perceptron(nn.Module):
    """One hidden layer, whose output is the features."""

    num_classes: int

    @nn.compact
    def __call__(self, inputs, train):
        features = nn.relu(nn.Dense(6, name="hidden")(inputs.reshape(len(inputs), -1)))
        return StudentOutput(nn.Dense(self.num_classes, name="head")(features), features)


def perceptron(num_classes):
    return Perceptron(num_classes)


@pytest.fixture
def quirky(prepared):
    """Eight steps asked for: the nearest number of epochs is three, nine steps."""
    config = stage("student", prepared, batch_size=BATCH, steps=8, devices=1, beta=BETA)
    optim = dataclasses.replace(
        config.optim,
        learning_rate=RATE,
        scales_learning_rate=SCALES_RATE,
        weight_decay=DECAY,
        warmup_steps=0,
    )
    name = "tests.training.test_quirks:perceptron"
    student = dataclasses.replace(config.student, name=name, options={}, init_from="")
    config = dataclasses.replace(config, optim=optim, student=student, official_quirks=True)
    return resolve(json.loads(to_json(config)))


class Prior(torch.nn.Module):
    """The terms of the loss, written anew from the equations."""

    def __init__(self, method, params):
        super().__init__()
        self.method = method
        if method == "aft_no_kernel":
            self.weight = torch.nn.Parameter(as_tensor(params["weight"]))
            self.bias = torch.nn.Parameter(as_tensor(params["bias"]))

    def forward(self, features, teacher):
        centred = features - features.mean(0)
        if self.method == "aft_no_kernel":
            mapped = teacher @ self.weight + self.bias
            return ((mapped - mapped.mean(0) - centred) ** 2).mean()
        halved = teacher * 0.5  # scales that are not learned stay at sigmoid(0)
        rows = []
        for matrix in (centred, halved - halved.mean(0)):
            rows.append(matrix / (torch.linalg.vector_norm(matrix, dim=1, keepdim=True) + 1e-8))
        difference = rows[0] @ rows[0].T - rows[1] @ rows[1].T
        return ((difference**2).mean() + 1e-8).sqrt()


def as_tensor(array):
    return torch.from_numpy(np.array(array))


def trained_by_torch(experiment, state, method):
    """The weights after three epochs of the same three batches."""
    params = jax.device_get(state.variables["params"])
    model = torch.nn.ModuleDict()
    for name in ("hidden", "head"):
        kernel = params[name]["kernel"]
        model[name] = torch.nn.Linear(*kernel.shape)
        model[name].weight.data = as_tensor(kernel.T)
        model[name].bias.data = as_tensor(params[name]["bias"])
    prior = Prior(method, jax.device_get(state.regularizer))
    groups = [{"params": list(model.parameters()), "lr": RATE, "weight_decay": DECAY}]
    if list(prior.parameters()):
        groups.append({"params": list(prior.parameters()), "lr": SCALES_RATE})
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    order, data = experiment.protocol.order(0), experiment.train
    batches = [order.batch(step) for step in range(3)]
    assert [len(rows) for rows in batches] == [50, 50, 1]
    assert sorted(np.concatenate(batches).tolist()) == list(range(ROWS))
    for _ in range(EPOCHS):
        for rows in batches:
            inputs = as_tensor(data.inputs(rows)).reshape(len(rows), -1)
            teacher = as_tensor(experiment.features.batch(rows, None)[0]["wide_cnn"])
            features = torch.relu(model["hidden"](inputs))
            labels = as_tensor(data.dataset.labels[rows]).long()
            loss = torch.nn.functional.cross_entropy(model["head"](features), labels)
            optimizer.zero_grad()
            (loss + BETA * prior(features, teacher)).backward()
            optimizer.step()
        schedule.step()
    ours = {}
    for name in ("hidden", "head"):
        ours[name] = {"kernel": model[name].weight.T, "bias": model[name].bias}
    return jax.tree.map(lambda x: x.detach().numpy(), (ours, dict(prior.named_parameters())))


def final_state(experiment, directory):
    with Checkpoints(directory) as checkpoints:
        return jax.device_get(checkpoints.restore(initial_state(experiment, 0)))


@pytest.mark.parametrize("method", ["aft", "aft_no_kernel"])
def test_three_epochs_equal_those_of_torch(quirky, tmp_path, method):
    """SGD, coupled decay, the cosine by epochs, the ragged batch of one row, frozen batches."""
    config = dataclasses.replace(quirky, method=method)
    experiment = build(config)
    student, prior = trained_by_torch(experiment, initial_state(experiment, 0), method)
    result = train(config, tmp_path)
    assert result["step"] == EPOCHS * 3
    state = final_state(experiment, tmp_path)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6),
        state.variables["params"],
        student,
    )
    if method == "aft":
        assert not np.any(state.regularizer["scales"]["wide_cnn"])
        return
    for name, value in prior.items():
        np.testing.assert_allclose(state.regularizer[name], value, rtol=1e-5, atol=1e-6)


def test_the_log_has_the_rate_of_the_epoch(quirky, tmp_path):
    config = dataclasses.replace(quirky, log_every=1, eval_every=8, checkpoint_every=8)
    train(config, tmp_path)
    lines = [line for line in read_metrics(tmp_path) if line["split"] == "train"]
    assert [line["step"] for line in lines] == list(range(1, 10))
    expected = np.repeat([RATE, RATE * 0.75, RATE * 0.25], 3)  # (1 + cos(pi e / 3)) / 2
    np.testing.assert_allclose([line["learning_rate"] for line in lines], expected, rtol=1e-6)


def test_a_resumed_run_ends_as_an_uninterrupted_one(quirky, tmp_path, monkeypatch):
    """The order needs no saving, the ragged batch and the frozen epochs included."""
    config = dataclasses.replace(quirky, log_every=1, eval_every=4, checkpoint_every=4)
    train(config, tmp_path / "whole")
    from aft_jax.training import trainer

    call = trainer._Run.call

    def killed(self, state, steps, picks):
        if steps.start == 5:
            raise KeyboardInterrupt("killed")
        return call(self, state, steps, picks)

    monkeypatch.setattr(trainer._Run, "call", killed)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        train(config, tmp_path / "killed")
    monkeypatch.undo()
    train(config, tmp_path / "killed")
    first, second = (
        (tmp_path / name / "student/model.safetensors").read_bytes() for name in ("whole", "killed")
    )
    assert first == second


@pytest.mark.parametrize(
    ("steps", "epochs"), [(5, 1), (14, 1), (15, 2), (20, 2), (24, 2), (25, 3), (100, 10)]
)
def test_steps_are_rounded_to_whole_epochs(steps, epochs):
    assert whole_epochs(steps, 10) == epochs


def test_less_than_half_an_epoch_is_refused():
    message = r"steps is rounded to whole epochs.*got 4 steps for 10 batches.*steps to 5 or more"
    with pytest.raises(ConfigError, match=message):
        whole_epochs(4, 10)
    with pytest.raises(ConfigError, match=r"Set config\.steps to 6 or more"):
        whole_epochs(5, 11)


def test_the_cosine_is_that_of_torch():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7)
    rate = epoch_cosine(0.3, 7, 4)
    for epoch in range(7):
        for step in range(4):
            ours = float(rate(jnp.int32(epoch * 4 + step)))
            assert ours == pytest.approx(schedule.get_last_lr()[0], rel=1e-5)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    ("method", "rate"), [("kd", RATE), ("rkd", RATE), ("ft", RATE), ("kkd", SCALES_RATE)]
)
def test_some_methods_train_their_own_parameters_at_the_students_rate(quirky, method, rate):
    config = dataclasses.replace(quirky, method=method)
    optimizer = make_protocol(config, ROWS, make_regularizer("aft")).optimizer
    params = {"student": {}, "regularizer": {"weight": jnp.zeros(2)}}
    gradients = {"student": {}, "regularizer": {"weight": jnp.ones(2)}}
    updates: Any
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    np.testing.assert_allclose(updates["regularizer"]["weight"], [-rate, -rate], rtol=1e-6)


TEACHERS = {"b": jnp.array([[1.0, 2.0], [3.0, 1.0], [0.5, 1.5]]), "a": jnp.array([[1.0], [0], [2]])}
FEATURES = jnp.array([[1.0, 0.5, 0.1], [0.2, 1.0, 0.4], [0.7, 0.3, 2.0]])
SPEC = FeatureSpec(3, {"b": 2, "a": 1})


def regularizer_of(config, method, **options):
    config = dataclasses.replace(config, method=method, method_options=options)
    return make_protocol(config, ROWS, make_regularizer(method, **options)).regularizer


@pytest.mark.parametrize("method", ["aft", "aft_rbf", "aft_dense", "aft_uniform"])
def test_scales_have_no_gradient_and_student_features_have(quirky, method):
    regularizer = regularizer_of(quirky, method)
    params = regularizer.init(jax.random.key(0), SPEC)
    by_params, by_features = jax.grad(lambda *args: regularizer.apply(*args, TEACHERS)[0], (0, 1))(
        params, FEATURES
    )
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(by_params))
    assert np.any(by_features)


def test_dense_scales_are_one_random_matrix_for_all_teachers(quirky):
    regularizer = regularizer_of(quirky, "aft_dense")
    wide = regularizer.init(jax.random.key(0), FeatureSpec(3, {"b": 150, "a": 50}))
    (matrix,) = jax.tree.leaves(wide)
    assert matrix.shape == (200, 200)
    assert np.std(matrix) == pytest.approx(200**-0.5, rel=0.02)
    assert np.mean(matrix) == pytest.approx(0, abs=2e-3)
    params = regularizer.init(jax.random.key(0), SPEC)
    (matrix,) = (np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params))
    mapped = np.concatenate([TEACHERS["a"], TEACHERS["b"]], axis=1).astype(np.float64) @ matrix
    units = []
    for rows in (np.asarray(FEATURES, np.float64), mapped):
        centred = rows - rows.mean(0)
        units.append(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-8))
    difference = units[0] @ units[0].T - units[1] @ units[1].T
    expected = np.sqrt(np.mean(difference**2) + 1e-8)
    assert float(regularizer.apply(params, FEATURES, TEACHERS)[0]) == pytest.approx(expected, 1e-5)


def test_dense_scales_of_a_product_are_refused(quirky):
    for method, options in {"aft_dense": {}, "aft": {"scales": "dense"}}.items():
        with pytest.raises(ConfigError, match="combine is 'concat' where scales are dense"):
            regularizer_of(quirky, method, combine="product", **options)


def test_rules(quirky):
    raw = json.loads(to_json(quirky))
    raw["inputs"]["kind"] = "image"
    for key, value, message in (
        ("devices", 0, "devices is 1 under config.official_quirks.*got 0"),
        ("accumulation_steps", 2, "accumulation_steps is 1 under config.official_quirks.*got 2"),
        ("views", 2, "views is 0 under config.official_quirks.*got 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            resolve(raw | {key: value})
    raw["optim"]["warmup_steps"] = 3
    with pytest.raises(
        ConfigError, match=r"warmup_steps is 0 under config\.official_quirks.*got 3"
    ):
        resolve(raw)
