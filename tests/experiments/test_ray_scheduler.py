"""Sweeps on a Ray cluster: one that is pretended, and where Ray is installed, one for real."""

import json
import sys
import types
from typing import Any

import pytest

from aft_jax.errors import UsageError
from aft_jax.experiments import sweep
from aft_jax.experiments.sweeping.records import load_sweep
from tests.experiments.sweeps import sweep_config

pytestmark = pytest.mark.usefixtures("standard_promotion")


class FakeRay(types.ModuleType):
    """As much of Ray as the scheduler calls; jobs run here, their arguments as text."""

    class exceptions:  # noqa: N801 - Ray's own name
        class RayError(Exception):
            pass

    def __init__(self, broken=()):
        super().__init__("ray")
        self.started, self.jobs, self.broken = False, [], broken

    def is_initialized(self):
        return self.started

    def init(self, address=None, log_to_driver=True):
        if address == "auto":
            raise ConnectionError("no cluster")
        self.started = True

    def shutdown(self):
        self.started = False

    def cluster_resources(self):
        return {"CPU": 2.0}

    def remote(self, function):
        def submit(job):
            self.jobs.append(json.loads(json.dumps(job)))
            return len(self.jobs) - 1

        self.function = function
        task = types.SimpleNamespace(remote=submit)
        return types.SimpleNamespace(options=lambda **resources: task)

    def wait(self, references, num_returns):
        return [references[-1]], references[:-1]

    def get(self, reference):
        if reference in self.broken:
            raise self.exceptions.RayError("the machine is gone")
        return json.loads(json.dumps(self.function(self.jobs[reference])))


@pytest.mark.slow
def test_a_cluster_gives_what_this_machine_gives(sweep_root, tmp_path, monkeypatch):
    sweep(sweep_config(sweep_root, together=1), tmp_path / "here")
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    sweep(sweep_config(sweep_root, scheduler="ray"), tmp_path / "there")
    here, there = load_sweep(tmp_path / "here"), load_sweep(tmp_path / "there")
    assert len(ray.jobs) == 4
    assert not ray.started
    assert there.chosen == here.chosen
    assert [t.tune for t in there.trials] == [t.tune for t in here.trials]
    assert [t.test for t in there.final] == [t.test for t in here.final]


@pytest.mark.slow
def test_a_job_that_is_lost_is_a_failure_of_its_trials(sweep_root, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", FakeRay(broken=(1,)))
    config = sweep_config(sweep_root, scheduler="ray")
    sweep(config, tmp_path)
    (lost,) = load_sweep(tmp_path).failed
    assert lost.reason == "its job on the cluster failed: the machine is gone"
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    sweep(config, tmp_path)
    assert load_sweep(tmp_path).failed == ()


def test_without_ray_its_scheduler_is_refused(sweep_root, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="needs Ray; it is not installed"):
        sweep(sweep_config(sweep_root, scheduler="ray"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_cluster_for_real(sweep_root, tmp_path):
    ray: Any = pytest.importorskip("ray")
    sweep(sweep_config(sweep_root, scheduler="ray", together=2), tmp_path)
    assert len(load_sweep(tmp_path).trials) == 4
    assert not ray.is_initialized()


def test_one_process_gives_the_jobs_out(sweep_root, tmp_path, monkeypatch):
    module = sys.modules["aft_jax.experiments.sweeping.sweep"]
    monkeypatch.setattr(module, "place_among_processes", lambda: (0, 2))
    with pytest.raises(UsageError, match="called by one process; got one of several"):
        sweep(sweep_config(sweep_root, scheduler="ray"), tmp_path)
