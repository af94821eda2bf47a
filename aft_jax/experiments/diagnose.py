"""What a comparison keeps for the pictures: learned gates, and kernels on the tune split."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.data.images import stored_view
from aft_jax.experiments.diagnostics import FILE_NAME
from aft_jax.features import TeacherFeatures
from aft_jax.losses import gates
from aft_jax.losses.factors import cosine_kernel_of, named_factors
from aft_jax.losses.scales import scaled
from aft_jax.students import load_student
from aft_jax.training.experiment import Experiment
from aft_jax.training.workdir import load_regularizer
from aft_jax.types import PyTree, StudentFeatures

ROWS = 200
"""Examples in a kernel picture."""


def diagnose(
    experiments: Mapping[str, Experiment],
    directories: Mapping[str, pathlib.Path],
    tune_features: TeacherFeatures | None,
    workdir: pathlib.Path,
) -> None:
    """Writes `diagnostics.npz` for one finished run of each method.

    Args:
        experiments: method -> its experiment.
        directories: method -> the run to look at.
        tune_features: the teachers' features of the tune split; None where no method reads them.
        workdir: directory of the comparison.
    """
    tune = next(iter(experiments.values())).tune
    labels = tune.dataset.labels
    rows = np.argsort(labels, kind="stable")
    rows = rows[labels[rows] >= 0]
    rows = rows[np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int)]
    views = np.zeros(len(rows), np.int64) if _has_views(experiments) else None
    keys = None
    if views is not None:
        keys = [stored_view(name, 0) for name in tune.dataset.ids[rows].tolist()]
    inputs = jax.tree.map(jnp.asarray, tune.inputs(rows, views=keys))
    arrays: dict[str, Any] = {"kernel/labels": labels[rows]}
    for method, experiment in experiments.items():
        features = _student_features(experiment, directories[method], inputs)
        arrays[f"kernel/{method}"] = _kernel(features)
    transfers = [m for m, experiment in experiments.items() if experiment.features]
    if transfers and tune_features:
        # A picture shows one set of gates: those of "aft", else of the first with teachers.
        shown = "aft" if "aft" in transfers else transfers[0]
        named, _ = tune_features.batch(rows, views)
        arrays |= _teacher_arrays(directories[shown], jax.device_get(named))
    np.savez(workdir / FILE_NAME, **arrays)


def _has_views(experiments: Mapping[str, Experiment]) -> bool:
    """Whether the stores hold views instead of whole images."""
    return next(iter(experiments.values())).config.views > 0


def _teacher_arrays(
    directory: pathlib.Path, features: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The gates a run learned, and the kernel of the teachers as that run sees them."""
    scales = load_regularizer(directory).get("scales", {})
    parts = [scaled(_optional(scales.get(name)), jnp.asarray(x)) for name, x in features.items()]
    kernel = {"kernel/teacher": _kernel(jnp.concatenate(parts, axis=1))}
    vectors = {name: scale for name, scale in scales.items() if scale.ndim == 1}
    return kernel | {f"gates/{name}": np.asarray(gate) for name, gate in gates(vectors).items()}


def _optional(scale: np.ndarray | None) -> jax.Array | None:
    return None if scale is None else jnp.asarray(scale)


def _student_features(
    experiment: Experiment, directory: pathlib.Path, inputs: PyTree
) -> StudentFeatures:
    variables = load_student(directory).variables
    output, _ = experiment.student.apply(variables, inputs, False, {})
    return output.features


def _kernel(features: StudentFeatures) -> np.ndarray:
    factors = list(named_factors(features).values())
    return np.asarray(cosine_kernel_of(factors, jnp.ones_like(factors[0][:, 0])).values)
