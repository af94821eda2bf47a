"""What runs keep for the pictures: learned gates, and kernels on the tune split."""

import io
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.config import Config
from aft_jax.data import load_split
from aft_jax.data.images import stored_view
from aft_jax.experiments.reporting.diagnostics import FILE_NAME
from aft_jax.experiments.reporting.teacher_kernels import (
    combined_kernel,
    kernel_shares,
    kernels_without,
    scaled_features,
)
from aft_jax.features import TeacherFeatures, has_store, store_path
from aft_jax.files import write_whole
from aft_jax.losses import gates
from aft_jax.losses.factors import cosine_kernel_of, named_factors
from aft_jax.students import find_start, load_student
from aft_jax.training.batches import StudentData, read_by_student, teacher_features
from aft_jax.training.experiment import Experiment, initial_state
from aft_jax.training.learner import student_of
from aft_jax.training.sharding import data_mesh, gathered, replicated
from aft_jax.training.start import start_variables
from aft_jax.training.workdir import load_regularizer, read_config
from aft_jax.types import PyTree, Student

ROWS = 200
"""Examples in a kernel picture."""


class _Snapshot(NamedTuple):
    """A student with weights of one moment: before training, or after it."""

    student: Student
    variables: PyTree


class _Teaching(NamedTuple):
    """The run whose gates are shown, and the teachers' features of the tune split."""

    config: Config
    directory: pathlib.Path
    features: TeacherFeatures


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
    first = next(iter(experiments))
    seed = read_config(directories[first]).seed
    start = initial_state(experiments[first], seed).variables
    start = jax.device_get(gathered(start, experiments[first].mesh))
    snapshots = {"start": _Snapshot(experiments[first].student, start)}
    for method, experiment in experiments.items():
        variables = load_student(directories[method]).variables
        snapshots[method] = _Snapshot(experiment.student, variables)
    transfers = [m for m, experiment in experiments.items() if experiment.features]
    teaching = None
    if transfers and tune_features:
        # A picture shows one set of gates: those of "aft", else of the first with teachers.
        shown = "aft" if "aft" in transfers else transfers[0]
        teaching = _Teaching(experiments[shown].config, directories[shown], tune_features)
    tune = experiments[first].tune
    _write(snapshots, tune, experiments[first].config, teaching, workdir)


def diagnose_run(directory: pathlib.Path) -> None:
    """Writes `diagnostics.npz` for one finished training run, whichever verb made it.

    Nothing is written where the method trains something else than the config's student.

    Args:
        directory: the run's.

    Raises:
        DataError: the data cannot be read.
        StoreError: a store of the tune split does not fit.
        UsageError: the directory holds no finished run, or what it started from is gone.
    """
    config, saved = read_config(directory), load_student(directory)
    if saved.name != config.student.name:
        return
    tune = read_by_student(config, load_split(config.data, "tune"))
    classes = tune.dataset.classes
    student = student_of(saved.name, saved.options, config.inputs, classes)
    snapshots = {
        "start": _Snapshot(student, _start(config, student, tune)),
        config.method: _Snapshot(student, saved.variables),
    }
    split = tune.dataset.split
    stores = [has_store(store_path(config, name, split)) for name in config.teachers]
    teaching = None
    if config.method != "stl" and stores and all(stores):
        mesh = data_mesh(config.devices, config.batch_size)
        features = teacher_features(config, tune.dataset, replicated(mesh))
        teaching = _Teaching(config, directory, features)
    _write(snapshots, tune, config, teaching, directory)


def _start(config: Config, student: Student, tune: StudentData) -> PyTree:
    """The student's weights at step 0 of a run."""
    example = jax.tree.map(jnp.asarray, tune.inputs(np.zeros(1, int)))
    shapes = jax.eval_shape(student.init, jax.random.key(0), example)
    weights = find_start(config.student, config.inputs).fill(shapes)
    return start_variables(student, weights, example, config.seed)


def _write(
    snapshots: Mapping[str, _Snapshot],
    tune: StudentData,
    config: Config,
    teaching: _Teaching | None,
    directory: pathlib.Path,
) -> None:
    rows = _sorted_rows(tune.dataset.labels)
    arrays: dict[str, Any] = {}
    if teaching:
        views = np.zeros(len(rows), np.int64) if config.views > 0 else None
        named, present = teaching.features.batch(rows, views)
        rows, kept = rows[present > 0], present > 0
        named = {name: array[kept] for name, array in jax.device_get(named).items()}
        arrays |= _teacher_arrays(teaching, named)
    arrays["kernel/labels"] = tune.dataset.labels[rows]
    keys = None
    if config.views > 0:  # the stores hold views instead of whole images
        keys = [stored_view(name, 0) for name in tune.dataset.ids[rows].tolist()]
    inputs = jax.tree.map(jnp.asarray, tune.inputs(rows, views=keys))
    for name, snapshot in snapshots.items():
        output, _ = snapshot.student.apply(snapshot.variables, inputs, False, {})
        factors = list(named_factors(output.features).values())
        kernel = cosine_kernel_of(factors, jnp.ones_like(factors[0][:, 0]))
        arrays[f"kernel/{name}"] = np.asarray(kernel.values)
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_whole(directory / FILE_NAME, content.getvalue())


def _sorted_rows(labels: np.ndarray) -> np.ndarray:
    """At most `ROWS` labelled rows, evenly over the rows in order of their class."""
    rows = np.argsort(labels, kind="stable")
    rows = rows[labels[rows] >= 0]
    return rows[np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int)]


def _teacher_arrays(teaching: _Teaching, named: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The gates a run learned, and the kernel of the teachers as that run sees them."""
    scales = load_regularizer(teaching.directory).get("scales", {})
    combine = teaching.config.method_options.get("combine", "concat")
    features = scaled_features(named, scales)
    arrays: dict[str, Any] = {"kernel/teacher": combined_kernel(features, combine)}
    for name, kernel in kernels_without(features, combine).items():
        arrays[f"without/{name}"] = kernel
    if combine == "concat":
        shares = kernel_shares(features)
        arrays |= {f"share/{name}": np.float64(share) for name, share in shares.items()}
    vectors = {name: scale for name, scale in scales.items() if scale.ndim == 1}
    return arrays | {f"gates/{name}": np.asarray(gate) for name, gate in gates(vectors).items()}
