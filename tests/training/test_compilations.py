"""The step is compiled once, however long the training."""

import logging

import jax
import pytest

from aft_jax.progress import progress_bar
from aft_jax.training.experiment import build
from aft_jax.training.trainer import fit
from tests.training.conftest import stage


@pytest.fixture
def compiled(caplog):
    """() -> names of the functions that were compiled since it was last asked."""
    with jax.log_compiles(), caplog.at_level(logging.WARNING):

        def since() -> list[str]:
            messages = [record.getMessage() for record in caplog.records]
            caplog.clear()
            begun = [message for message in messages if message.startswith("Compiling ")]
            return [message.split()[1] for message in begun]

        yield since


def run(experiment, config, directory) -> None:
    with progress_bar(experiment.protocol.steps, "train", "step") as bar:
        fit(experiment, config, directory, bar)


@pytest.mark.parametrize(
    "changes", [{}, {"steps_per_call": 3}, {"state_sharding": "sharded", "steps_per_call": 3}]
)
def test_epochs_compile_the_step_once(prepared, tmp_path, compiled, changes):
    every = {"log_every": 3, "eval_every": 6, "checkpoint_every": 6}
    config = stage("student", prepared, batch_size=40, steps=12, devices=8, **every, **changes)
    experiment = build(config)
    rows = len(experiment.train.dataset)
    assert config.steps * config.batch_size > 2 * rows
    run(experiment, config, tmp_path / "first")
    names = compiled()
    assert names.count("jit(call)") == 1
    assert names.count("jit(eval_step)") == 1
    run(experiment, config, tmp_path / "second")
    assert {"jit(call)", "jit(eval_step)"}.isdisjoint(compiled())


def test_a_shorter_call_is_one_compilation_more(prepared, tmp_path, compiled):
    every = {"log_every": 4, "eval_every": 8, "checkpoint_every": 8}
    config = stage(
        "student", prepared, batch_size=40, steps=16, devices=8, steps_per_call=3, **every
    )
    run(build(config), config, tmp_path)
    # 3, 3 and 2 steps up to each evaluation
    assert compiled().count("jit(call)") == 2
