"""What a comparison keeps for the pictures: learned gates, and kernels on the tune split."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.experiments.diagnostics import FILE_NAME
from aft_jax.losses import gates
from aft_jax.losses.kernels import cosine_kernel
from aft_jax.losses.scales import scaled
from aft_jax.students import load_student
from aft_jax.training.experiment import Experiment, teacher_features
from aft_jax.training.workdir import load_regularizer

ROWS = 200
"""Examples in a kernel picture."""


def diagnose(
    experiments: Mapping[str, Experiment],
    directories: Mapping[str, pathlib.Path],
    workdir: pathlib.Path,
) -> None:
    """Writes `diagnostics.npz` for one finished run of each method.

    Args:
        experiments: method -> its experiment.
        directories: method -> the run to look at.
        workdir: directory of the comparison.
    """
    arrays: dict[str, Any] = {}
    tune = next(iter(experiments.values())).tune
    rows = np.argsort(tune.labels, kind="stable")
    rows = rows[np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int)]
    arrays["kernel/labels"] = tune.labels[rows]
    for method, experiment in experiments.items():
        student_features = _student_features(experiment, directories[method], tune.inputs[rows])
        arrays[f"kernel/{method}"] = _kernel(student_features)
        scales = load_regularizer(directories[method]).get("scales", {})
        if method == "aft" and scales:
            for name, gate in gates(scales).items():
                arrays[f"gates/{name}"] = np.asarray(gate)
            config = experiment.config
            features = teacher_features(config, tune, config.data.tune)
            parts = [
                scaled(jnp.asarray(scales[n]), jnp.asarray(features[n][rows])) for n in features
            ]
            arrays["kernel/teacher"] = _kernel(jnp.concatenate(parts, axis=1))
    np.savez(workdir / FILE_NAME, **arrays)


def _student_features(
    experiment: Experiment, directory: pathlib.Path, inputs: np.ndarray
) -> jax.Array:
    variables = load_student(directory).variables
    output, _ = experiment.student.apply(variables, jnp.asarray(inputs), False, {})
    return output.features


def _kernel(features: jax.Array) -> np.ndarray:
    return np.asarray(cosine_kernel(features, jnp.ones_like(features[:, 0])).values)
