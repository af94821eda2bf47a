"""A sweep of seconds: a student of one layer on the digits, teachers that learned nothing."""

import dataclasses
from typing import Any

from aft_jax.config import Config, resolve
from aft_jax.config.defaults import base_config, teacher


def sweep_config(root, names=("ada", "bob"), **plan) -> Config:
    """The config of a sweep whose stores are under `root`; `plan` changes `config.sweep`."""
    config: Any = base_config()
    config.data.update(name="digits", source="digits", task="digit")
    config.student.options = {"widths": (4,), "strides": (2,)}
    for seed, name in enumerate(names):
        config.teachers[name] = teacher("random", "", options={"width": 6, "seed": seed})
    config.features.directory = str(root / "features")
    config.update(
        method="aft", batch_size=50, steps=4, log_every=2, eval_every=2, checkpoint_every=2
    )
    config.devices = 1
    config.optim.learning_rate = 1e-2
    config.sweep.update(betas=(1.0, 30.0), seeds=(0, 1))
    resolved = resolve(config)
    return dataclasses.replace(resolved, sweep=dataclasses.replace(resolved.sweep, **plan))


def with_plan(config: Config, **plan) -> Config:
    return dataclasses.replace(config, sweep=dataclasses.replace(config.sweep, **plan))
