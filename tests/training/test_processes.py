"""Two real processes of four devices each train the run of one process with eight, or one."""

import dataclasses
import json
import pathlib
import shutil
import time

import jax
import numpy as np
import pytest

from aft_jax import distributed
from aft_jax.config import to_json
from aft_jax.distributed import Processes, join, several_in
from aft_jax.errors import ConfigError, NonFiniteError, StoreError, UsageError
from aft_jax.students import load_student
from aft_jax.training.checkpoint import Checkpoints
from aft_jax.training.experiment import build, initial_state
from aft_jax.training.metrics import read_metrics
from aft_jax.training.workdir import load_regularizer
from tests.training.conftest import stage
from tests.training.several import finished, start

STEPS = 10


def config_file(config, path: pathlib.Path) -> str:
    """A config file that returns this config, whatever made it."""
    path.with_suffix(".json").write_text(to_json(config))
    path.write_text(
        "import json, pathlib, ml_collections\n\n\ndef get_config(arguments=''):\n"
        f"    path = pathlib.Path({str(path.with_suffix('.json'))!r})\n"
        "    return ml_collections.ConfigDict(json.loads(path.read_text()))\n"
    )
    return f"--config={path}"


@pytest.fixture(scope="module")
def run(prepared):
    """Ten steps on 40 rows, evaluated on a split that 40 does not divide.

    The student normalises over the batch and drops units.
    """
    config = stage("student", prepared, batch_size=40, steps=STEPS, devices=0)
    name = "tests.training.batch_norm:batch_norm_student"
    student = dataclasses.replace(config.student, name=name, options={}, init_from="")
    config = dataclasses.replace(config, student=student)
    return dataclasses.replace(config, log_every=1, eval_every=5, checkpoint_every=5)


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    """The run by one process with one device, one with eight, and two with four."""
    root = tmp_path_factory.mktemp("processes")
    flag = config_file(run, root / "run.py")
    layouts = {"one": (1, 1), "eight": (1, 8), "two": (2, 4)}
    for name, (processes, devices) in layouts.items():
        finished(start(processes, devices, "train", flag, f"--workdir={root / name}"))
    return root


def state_of(config, directory):
    like = initial_state(build(dataclasses.replace(config, devices=1)), seed=0)
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.latest == STEPS
        return jax.device_get(checkpoints.restore(like))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eight", "two"])
def test_loss_gradients_metrics_and_state_after_ten_steps(run, trained, name):
    lines, expected = read_metrics(trained / name), read_metrics(trained / "one")
    assert len(lines) == len(expected) == STEPS + 2
    for found, line in zip(lines, expected, strict=True):
        for key, value in line.items():
            if key in ("step", "split"):
                assert found[key] == value
            elif key != "steps_per_second":  # "loss", "gradient_norm", "regularizer", ...
                assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
    for a, b in zip(
        jax.tree.leaves(state_of(run, trained / name)),
        jax.tree.leaves(state_of(run, trained / "one")),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert load_regularizer(trained / name).keys() == {"scales"}


@pytest.mark.slow
def test_evaluation_is_exact_over_an_uneven_split(run, trained):
    values = {}
    for name, (processes, devices) in {"one": (1, 1), "two": (2, 4)}.items():
        words = ("evaluate", f"--workdir={trained / 'one'}", "--split=tune")
        outputs = finished(start(processes, devices, *words))
        values[name] = json.loads((trained / "one/evaluation-tune.json").read_text())
        assert "accuracy" in outputs[0]
        assert "accuracy" not in "".join(outputs[1:]), "the first process speaks"
    rows = len(build(run).tune.dataset)
    assert rows % 40
    correct = values["one"]["accuracy"] * rows
    assert correct == pytest.approx(round(correct)), "each example counts once"
    assert values["two"]["accuracy"] == values["one"]["accuracy"]
    assert values["two"]["loss"] == pytest.approx(values["one"]["loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("writer", "reader"), [("two", (1, 1)), ("one", (2, 4))])
def test_a_checkpoint_of_one_topology_is_read_by_another(run, trained, tmp_path, writer, reader):
    directory = tmp_path / "resumed"
    directory.mkdir()
    shutil.copy(trained / writer / "config.json", directory)
    shutil.copy(trained / writer / "metrics.jsonl", directory)
    shutil.copytree(trained / writer / "checkpoints/5", directory / "checkpoints/5")
    flag = config_file(run, tmp_path / "run.py")
    finished(start(*reader, "train", flag, f"--workdir={directory}"))
    assert [line["step"] for line in read_metrics(directory)] == [
        line["step"] for line in read_metrics(trained / writer)
    ]
    for a, b in zip(
        jax.tree.leaves(load_student(directory).variables),
        jax.tree.leaves(load_student(trained / "one").variables),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_processes_extract_one_store_and_compare_as_one_would(run, tmp_path):
    features = dataclasses.replace(run.features, directory=str(tmp_path / "features"))
    plan = dataclasses.replace(run.compare, betas=(10.0,), search_seeds=(100,), seeds=(0,))
    config = dataclasses.replace(run, features=features, compare=plan, steps=5)
    flag = config_file(config, tmp_path / "run.py")
    finished(start(2, 4, "extract", flag))
    tables = {}
    for name, layout in {"one": (1, 1), "two": (2, 4)}.items():
        # Split over processes, no state is whole in one of them.
        words = (flag, "--config.state_sharding=sharded", f"--workdir={tmp_path / name}")
        outputs = finished(start(*layout, "compare", *words))
        table = [line for line in outputs[0].splitlines() if line.startswith(("stl", "aft "))]
        tables[name] = [line.rsplit(maxsplit=1)[0] for line in table]  # without the seconds
    assert len(tables["one"]) == 2
    assert tables["two"] == tables["one"]


def test_flags_go_together():
    with pytest.raises(UsageError, match=r"go together, I from 0; got 'host:1', 2 and -1"):
        join(Processes("host:1", 2))
    with pytest.raises(UsageError, match=r"is HOST:PORT of process 0, .*; got 'host'"):
        join(Processes("host", 2, 1))
    with pytest.raises(UsageError, match=r"below --processes, from 0; got 2 of 2"):
        join(Processes("host:1", 2, 2))


def test_without_flags_or_a_cluster_the_run_is_one_process():
    join(Processes())
    assert not jax.distributed.is_initialized()


@pytest.mark.parametrize(
    ("several", "environment"),
    [
        (False, {}),
        (False, {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}),  # a batch script outside srun
        (False, {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "a"}),
        (True, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "a"}),
        (False, {"TPU_WORKER_HOSTNAMES": "localhost"}),
        (True, {"TPU_WORKER_HOSTNAMES": "t-0.svc,t-1.svc"}),
        (True, {"TPU_WORKER_HOSTNAMES": "t-0.svc", "MEGASCALE_NUM_SLICES": "2"}),
        (True, {"OMPI_COMM_WORLD_SIZE": "2"}),
        (False, {"OMPI_COMM_WORLD_SIZE": "1"}),
    ],
)
def test_environments_of_several_processes(several, environment):
    assert several_in(environment) is several


@pytest.mark.parametrize(
    ("error", "alone", "several"),
    [
        (NonFiniteError("x"), True, True),
        (ConfigError("x"), True, True),
        (StoreError("x"), True, False),
        (RuntimeError("x"), True, False),
    ],
)
def test_who_meets_an_error(monkeypatch, error, alone, several):
    for processes, expected in [(1, alone), (2, several)]:
        monkeypatch.setattr(distributed, "place_among_processes", lambda n=processes: (0, n))
        assert distributed.met_by_all(error) is expected


@pytest.mark.slow
def test_an_error_of_the_first_process_alone_ends_the_other_soon(run, tmp_path):
    """Its exit code stays, where Python's own end would wait for minutes and change it."""
    flag = config_file(run, tmp_path / "run.py")
    children = start(2, 1, "train", flag, f"--workdir={tmp_path}/run", failing=0)
    began = time.monotonic()
    outputs = [child.communicate(timeout=120)[0] for child in children]
    assert children[0].returncode == 74, outputs[0]
    assert "no space for the metrics" in outputs[0]
    assert children[1].returncode != 0
    assert time.monotonic() - began < 90
