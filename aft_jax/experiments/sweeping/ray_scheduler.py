"""The trials of a sweep on a Ray cluster: each job is the local scheduler with a part of them.

A job is text and numbers only: the config as JSON, and which trials. Its machine needs the same
files at the same paths as the one that asked for the sweep.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from aft_jax.config import Config, resolve, to_json
from aft_jax.errors import UsageError
from aft_jax.experiments.sweeping.plan import PlannedTrial
from aft_jax.experiments.sweeping.runs import run_trials
from aft_jax.training.group import Outcome

Job = dict[str, Any]
"""config, cwd, workdir, trials: JSON values."""


def run_on_ray(
    config: Config, trials: Sequence[PlannedTrial], workdir: pathlib.Path, bar: tqdm
) -> dict[str, Outcome]:
    """Submits the trials to the cluster there is, else to a local one, and waits for all.

    Args:
        config: the sweep's config.
        trials: all of one stage.
        workdir: directory of the sweep, claimed.
        bar: advanced by the steps of every trial as its job ends.

    Returns:
        Directory of a trial -> how it ended.

    Raises:
        UsageError: Ray is not installed.
    """
    ray = require_ray()
    started = _connect(ray)
    try:
        return _run_jobs(ray, jobs_of(config, trials, workdir), config.steps, bar)
    finally:
        if started:
            ray.shutdown()


def _run_jobs(ray: Any, jobs: Sequence[Job], steps: int, bar: tqdm) -> dict[str, Outcome]:
    gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0
    remote = ray.remote(run_job).options(num_cpus=1, num_gpus=gpus, max_retries=1)
    waiting = {remote.remote(job): job for job in jobs}
    outcomes: dict[str, Outcome] = {}
    while waiting:
        (done, *_), _ = ray.wait(list(waiting), num_returns=1)
        job = waiting.pop(done)
        try:
            outcomes |= {name: Outcome(*end) for name, end in ray.get(done).items()}
        except ray.exceptions.RayError as error:  # an error of ours, or the machine is gone
            reason = f"its job on the cluster failed: {error}"
            outcomes |= {trial["directory"]: Outcome(None, reason) for trial in job["trials"]}
        bar.update(len(job["trials"]) * steps)
    return outcomes


def jobs_of(config: Config, trials: Sequence[PlannedTrial], workdir: pathlib.Path) -> list[Job]:
    """Parts of the trials that can run on machines of their own.

    Args:
        config: the sweep's config; `together` trials share a job, 1 where it is 0. A population is
            never split.
        trials: all of one stage.
        workdir: directory of the sweep.

    Returns:
        The jobs.
    """
    parts: dict[tuple[Any, ...], list[PlannedTrial]] = {}
    populations = config.sweep.tuner == "population"
    for number, trial in enumerate(trials):
        part = trial.seed if populations else number // max(1, config.sweep.together)
        parts.setdefault((trial.teachers, part), []).append(trial)
    common = {"config": to_json(config), "cwd": os.getcwd(), "workdir": str(workdir.absolute())}
    return [
        {**common, "trials": [dataclasses.asdict(trial) for trial in part]}
        for part in parts.values()
    ]


def run_job(job: Job) -> dict[str, tuple[dict[str, Any] | None, str, bool]]:
    """One job, on whatever machine it landed.

    Args:
        job: one of `jobs_of`.

    Returns:
        Directory of a trial -> the fields of its `Outcome`.
    """
    os.chdir(job["cwd"])  # stores and data are named by paths relative to it
    if job["cwd"] not in sys.path:  # where "module:function" in a config is looked for
        sys.path.insert(0, job["cwd"])
    config = resolve(json.loads(job["config"]))
    trials = [PlannedTrial(**{**raw, "names": tuple(raw["names"])}) for raw in job["trials"]]
    with tqdm(disable=True) as bar:
        outcomes = run_trials(config, trials, pathlib.Path(job["workdir"]), bar)
    return {name: (end.result, end.reason, end.diverged) for name, end in outcomes.items()}


def require_ray() -> Any:
    """The module.

    Raises:
        UsageError: Ray is not installed.
    """
    try:
        return importlib.import_module("ray")  # an extra of its own
    except ImportError as error:
        raise UsageError(
            "config.sweep.scheduler='ray' needs Ray; it is not installed. Run "
            "`pip install 'aft_jax[ray]'`, or leave the scheduler at 'local'."
        ) from error


def _connect(ray: Any) -> bool:
    """Joins the cluster there is; returns whether there was none and a local one was started."""
    if ray.is_initialized():
        return False
    try:
        ray.init(address="auto", log_to_driver=False)
        return False
    except ConnectionError:
        ray.init(log_to_driver=False)
        return True
