"""`config.precision`: what is computed in it, what is not, and runs that skip steps."""

import dataclasses
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tqdm import tqdm

from aft_jax.errors import ConfigError, NonFiniteError
from aft_jax.students import load_student, with_precision
from aft_jax.training import build, evaluate, loss_scale, train, trainer
from aft_jax.training.batches import train_batch
from aft_jax.training.experiment import initial_state
from aft_jax.training.group import Programs, Trial
from aft_jax.training.metrics import read_metrics
from aft_jax.training.online import online
from aft_jax.training.sharding import row_sharded
from aft_jax.training.step import make_train_step, whole_batch
from aft_jax.training.together import fit_together
from aft_jax.training.tuner import fixed
from aft_jax.types import Regularizer, StudentOutput

HERE = "tests.training.test_precision"
HALF = ("bfloat16", "float16")


class Own(nn.Module):
    """Anyone's module: it returns what its layers compute in."""

    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, images, train):
        rows = images.astype(self.dtype).reshape(len(images), -1)
        features = nn.relu(nn.Dense(4, dtype=self.dtype)(rows))
        return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(features), features


def plain(num_classes):
    return Own(num_classes, jnp.float32)


def flexible(num_classes, dtype):
    return Own(num_classes, jnp.dtype(dtype))


def forwarding(num_classes, **options):
    return Own(num_classes, **{"dtype": jnp.float32} | options)


class Steep(nn.Module):
    """Finite logits whose gradient is not: the root of zero."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train):
        features = jnp.mean(images.astype(jnp.float32), axis=(1, 2))
        weight = self.param("weight", nn.initializers.zeros, features.shape[-1:])
        features = features + jnp.sqrt(weight)[None]
        return StudentOutput(nn.Dense(self.num_classes, name="head")(features), features)


def steep(num_classes, dtype):
    return Steep(num_classes)


def with_student(config, name, **changes):
    student = dataclasses.replace(config.student, name=name, options={}, init_from="")
    return dataclasses.replace(config, student=student, **changes)


def with_options(config, **options):
    changed = {**config.student.options, **options}
    return dataclasses.replace(config, student=dataclasses.replace(config.student, options=changed))


def batch_of(experiment):
    order = experiment.protocol.order(0)
    rows = row_sharded(experiment.mesh)
    return train_batch(experiment.train, experiment.features, order, 0, 0, rows)


def spy(seen) -> Regularizer:
    """A term that notes the dtypes of what it is given."""

    def apply(params, student_features, teacher_features, *, mask, logits):
        seen.update(features=student_features.dtype, logits=logits.dtype)
        return jnp.mean(jnp.square(student_features)), {}

    return Regularizer(lambda key, spec: {}, apply)


@pytest.mark.parametrize("name", ["small_cnn", f"{HERE}:flexible"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_products_are_in_the_precision_and_all_around_them_in_float32(config, precision, name):
    config = dataclasses.replace(config, precision=precision)
    config = config if name == "small_cnn" else with_student(config, name, precision=precision)
    experiment = build(config)
    seen: dict[str, Any] = {}
    step = make_train_step(
        whole_batch(experiment.student, spy(seen)), experiment.protocol.optimizer
    )
    state, batch = initial_state(experiment, 0), batch_of(experiment)
    arguments = (state, batch, jnp.float32(1), jax.random.key(0))
    after, metrics = jax.eval_shape(step, *arguments)
    assert seen == {"features": jnp.float32, "logits": jnp.float32}
    floats = {leaf.dtype for leaf in jax.tree.leaves((after, metrics))}
    assert floats - {jnp.dtype("int32")} == {jnp.dtype("float32")}
    program = str(jax.make_jaxpr(step)(*arguments))
    kinds = {"bfloat16": r"\bbf16\[", "float16": r"\bf16\["}
    assert [name for name, kind in kinds.items() if re.search(kind, program)] == (
        [] if precision == "float32" else [precision]
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_run_in_each_precision(config, precision, tmp_path):
    config = dataclasses.replace(config, precision=precision)
    result = train(config, tmp_path)
    saved = load_student(tmp_path)
    assert saved.options["dtype"] == precision
    assert {leaf.dtype for leaf in jax.tree.leaves(saved.variables)} == {np.dtype("float32")}
    assert evaluate(tmp_path, "tune") == pytest.approx(result["tune"], rel=1e-6)
    lines = [line for line in read_metrics(tmp_path) if line["split"] == "train"]
    scaled = {"loss_scale", "skipped"}
    for line in lines:
        assert line.keys() & scaled == (scaled if precision == "float16" else set())
    if precision == "float16":
        assert lines[0]["skipped"] < 1
        assert lines[-1]["loss_scale"] <= lines[0]["loss_scale"] <= 32768


def test_the_precisions_compute_differently_and_nearly_the_same(config, tmp_path):
    losses = {}
    for precision in ("float32", *HALF):
        train(dataclasses.replace(config, precision=precision), tmp_path / precision)
        losses[precision] = read_metrics(tmp_path / precision)[-1]["loss"]
    assert len(set(losses.values())) == 3
    for precision in HALF:
        assert losses[precision] == pytest.approx(losses["float32"], rel=0.02)


def test_a_run_starts_from_one_of_another_precision(config, tmp_path):
    half = dataclasses.replace(config, precision="bfloat16")
    train(half, tmp_path / "half")
    student = dataclasses.replace(config.student, init_from=str(tmp_path / "half"))
    experiment = build(dataclasses.replace(config, student=student))
    assert experiment.start.options["dtype"] == "float32"
    body = load_student(tmp_path / "half").variables["params"]["Conv_0"]["kernel"]
    np.testing.assert_array_equal(experiment.weights["params"]["Conv_0"]["kernel"], body)


def test_the_option_dtype_is_config_precision(config):
    with pytest.raises(ConfigError, match=r"options has no dtype: config\.precision .*'bfloat16'"):
        build(with_options(config, dtype="bfloat16"))


def test_a_student_of_your_own_that_takes_no_dtype(config):
    build(with_student(config, f"{HERE}:plain"))
    with pytest.raises(ConfigError, match=r"plain takes none.* in float16\. Give the function a"):
        build(with_student(config, f"{HERE}:plain", precision="float16"))


def test_what_a_function_is_given():
    assert with_precision(f"{HERE}:plain", {}, "float32") == {}
    assert with_precision(f"{HERE}:flexible", {}, "float32") == {"dtype": "float32"}
    assert with_precision(f"{HERE}:forwarding", {"a": 1}, "float32") == {"a": 1}
    assert with_precision(f"{HERE}:forwarding", {"a": 1}, "float16") == {"a": 1, "dtype": "float16"}
    assert with_precision("vit", {"dtype": "float16"}, "bfloat16") == {"dtype": "bfloat16"}


def check_halving(directory):
    """A run of 40 steps, a line each, from the scale 2^40: every skipped step halves it."""
    lines = [line for line in read_metrics(directory) if line["split"] == "train"]
    skipped = np.array([line["skipped"] for line in lines])
    assert set(skipped) == {0, 1}
    assert skipped[:10].all()
    assert not skipped[-1]
    scales = [2.0 ** (40 - skipped[:step].sum()) for step in range(40)]
    assert [line["loss_scale"] for line in lines] == scales
    assert lines[-1]["loss"] < lines[0]["loss"]
    return lines


def test_steps_are_skipped_until_the_scale_fits(config, tmp_path, monkeypatch):
    """Gradients times 2^40 are infinite in float16; some smaller power of two is not."""
    monkeypatch.setattr(loss_scale, "FIRST", 2.0**40)
    config = dataclasses.replace(config, precision="float16", steps=40, log_every=1)
    train(config, tmp_path)
    lines = check_halving(tmp_path)
    skipped = [line["gradient_norm"] == 0 for line in lines]  # which is then of no step
    assert skipped == [line["skipped"] == 1 for line in lines]


def test_a_run_ends_where_no_scale_helps(config, tmp_path, monkeypatch):
    monkeypatch.setattr(loss_scale, "FIRST", 2.0)
    config = with_student(config, f"{HERE}:steep", precision="float16")
    with pytest.raises(NonFiniteError, match=r"at step 3 the loss scale is 0\.5: the gradients "):
        train(config, tmp_path)


def test_a_killed_run_resumes_with_its_scale(config, tmp_path, monkeypatch):
    config = dataclasses.replace(config, precision="float16")
    train(config, tmp_path / "whole")
    whole, cut = (load_student(tmp_path / "whole").variables, tmp_path / "cut")

    evaluated = trainer.evaluate_on

    with monkeypatch.context() as patch:

        def evaluate_or_die(*arguments):
            if len([line for line in read_metrics(cut) if line["split"] == "tune"]) == 2:
                raise RuntimeError("killed")
            return evaluated(*arguments)

        patch.setattr(trainer, "evaluate_on", evaluate_or_die)
        with pytest.raises(RuntimeError, match="killed"):
            train(config, cut)
    train(config, cut)
    jax.tree.map(np.testing.assert_array_equal, load_student(cut).variables, whole)
    ours, theirs = (
        [(line["step"], line["loss_scale"]) for line in read_metrics(path) if "loss_scale" in line]
        for path in (cut, tmp_path / "whole")
    )
    assert ours == theirs
    assert ours[-1][1] < ours[0][1]


@pytest.mark.slow
def test_trials_together_have_the_scales_that_they_have_alone(config, tmp_path, monkeypatch):
    monkeypatch.setattr(loss_scale, "FIRST", 2.0**30)
    config = dataclasses.replace(config, precision="float16", steps=30)
    experiment = build(config)
    pairs = {"low": (1.0, 0), "high": (1e6, 0)}
    trials = [
        Trial(dataclasses.replace(config, beta=beta, seed=seed), tmp_path / name)
        for name, (beta, seed) in pairs.items()
    ]
    tuner = fixed(experiment)
    programs = Programs(experiment, tuner.step)
    for trial in trials:
        trial.directory.mkdir()
    with tqdm(disable=True) as bar:
        fit_together(programs, tuner, trials, tmp_path / "group", bar)
    paths = []
    for trial in trials:
        alone = tmp_path / f"{trial.directory.name}-alone"
        train(trial.config, alone)
        together, single = (
            [line["loss_scale"] for line in read_metrics(path) if line["split"] == "train"]
            for path in (trial.directory, alone)
        )
        assert together == single
        paths.append(single)
    assert paths[0][-1] > paths[1][-1]  # the larger loss overflows at smaller scales


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"devices": 8},
        {"devices": 8, "state_sharding": "sharded"},
        {"accumulation_steps": 4},
        {"steps_per_call": 4},
    ],
    ids=["devices", "sharded", "accumulated", "scanned"],
)
def test_scaling_where_the_step_is_laid_out_otherwise(config, changes, tmp_path, monkeypatch):
    one = dataclasses.replace(config, precision="float16", steps=40, log_every=1)
    other = dataclasses.replace(one, **changes)
    with monkeypatch.context() as patch:
        patch.setattr(loss_scale, "FIRST", 2.0**40)
        train(other, tmp_path / "halving")
    check_halving(tmp_path / "halving")
    monkeypatch.setattr(loss_scale, "FIRST", 64.0)  # no step is skipped
    losses = []
    for name, whole in {"one": one, "other": other}.items():
        train(dataclasses.replace(whole, steps=8), tmp_path / name)
        lines = [line for line in read_metrics(tmp_path / name) if line["split"] == "train"]
        assert not any(line["skipped"] for line in lines)
        losses.append([line["loss"] for line in lines])
    np.testing.assert_allclose(*losses, rtol=5e-3)


def test_the_online_tuner_skips_steps_and_keeps_beta(config):
    optim = dataclasses.replace(config.optim, warmup_steps=0)
    experiment = build(dataclasses.replace(config, precision="float16", optim=optim))
    step = jax.jit(online(experiment, 1.0, 4).step)
    first, batch = initial_state(experiment, 0), batch_of(experiment)
    beta, root = jnp.float32(10), jax.random.key(0)

    def scaled_by(state, scale):
        return state._replace(loss_scale=state.loss_scale._replace(scale=jnp.float32(scale)))

    state, *_ = step(scaled_by(first, 64), beta, batch, batch, root)  # Adam's first is a sign alone
    moved = {}
    for name, scale in {"fits": 64.0, "overflows": 2.0**60}.items():
        after, new_beta, metrics = step(scaled_by(state, scale), beta, batch, batch, root)
        moved[name] = float(new_beta) != 10
        skipped = float(metrics["skipped"][0])
        assert float(after.loss_scale.scale) == (scale / 2 if skipped else scale)
        assert np.isfinite(metrics["beta_slope"][0])
        same = jax.tree.map(np.array_equal, after.variables, state.variables)
        assert all(jax.tree.leaves(same)) == (skipped == 1)
    assert moved == {"fits": True, "overflows": False}
