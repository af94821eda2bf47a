"""What training did to gates and kernels: the arrays of `diagnostics.npz`."""

import dataclasses
import math
import os
import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np

from aft_jax.errors import UsageError
from aft_jax.losses.aft import EPSILON
from aft_jax.types import Float, Int

FILE_NAME = "diagnostics.npz"


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """Arrays of one AFT student and of one plain student, for the pictures.

    Attributes:
        gates: teacher -> [t] learned gates, in (0, 1); training starts all of them at 1/2.
        kernels: "teacher" (all teachers' features weighted by the gates of the AFT student),
            "start" (the student before training) and the trained students by method -> [b, b]
            cosine kernel over the same tune examples, sorted by class.
        labels: [b] class of each example; empty where there are no kernels.
        shares: teacher -> its share of the teachers' kernel; they add up to one. Empty where the
            teachers are multiplied.
        without: teacher -> [b, b] the kernel of the other teachers; empty for a single one.
    """

    gates: Mapping[str, Float[np.ndarray, " _"]]
    kernels: Mapping[str, Float[np.ndarray, "b b"]]
    labels: Int[np.ndarray, " b"]
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    without: Mapping[str, Float[np.ndarray, "b b"]] = dataclasses.field(default_factory=dict)

    @property
    def students(self) -> list[str]:
        """The names of the students' kernels, the untrained one first."""
        names = [name for name in self.kernels if name != "teacher"]
        return sorted(names, key=lambda name: name != "start")

    @property
    def distances(self) -> dict[str, float]:
        """R between each student's kernel and the teacher's; empty without a teacher kernel."""
        if "teacher" not in self.kernels:
            return {}
        teacher = self.kernels["teacher"]
        return {name: kernel_distance(self.kernels[name], teacher) for name in self.students}


def load_diagnostics(workdir: str | os.PathLike[str]) -> Diagnostics | None:
    """Reads `diagnostics.npz`.

    Args:
        workdir: directory of a comparison or a training run.

    Returns:
        The arrays, or None where there are none.

    Raises:
        UsageError: the file is damaged, or kernels and labels do not fit together.
    """
    path = pathlib.Path(workdir) / FILE_NAME
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UsageError(
            f"{path} is damaged: {error}. Delete it; the report makes it anew, or does without."
        ) from error
    labels = arrays.pop("kernel/labels", np.zeros(0, np.int64))
    kernels = _group(arrays, "kernel/")
    without = _group(arrays, "without/")
    for name, kernel in [*kernels.items(), *without.items()]:
        if kernel.shape != (len(labels), len(labels)):
            raise UsageError(
                f"{path}: a kernel is [b, b] over the b examples of kernel/labels; kernel/{name} "
                f"has shape {kernel.shape}, kernel/labels has {labels.shape}. "
                "Delete the file: a report without it leaves these pictures out."
            )
    shares = {name: float(share) for name, share in _group(arrays, "share/").items()}
    return Diagnostics(_group(arrays, "gates/"), kernels, labels, shares, without)


def kernel_distance(kernel: Float[np.ndarray, "b b"], teacher: Float[np.ndarray, "b b"]) -> float:
    """R = sqrt(mean_ij (K - K_t)_ij^2 + 1e-8), the distance that AFT minimises.

    Args:
        kernel: [b, b] cosine kernel of a student.
        teacher: [b, b] cosine kernel of the teacher over the same examples.

    Returns:
        The distance, without unit; 1e-4 for equal kernels.
    """
    return math.sqrt(float(np.mean((kernel - teacher) ** 2)) + EPSILON)


def _group(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays under one prefix, in float64: they may have been stored narrower."""
    return {
        name.removeprefix(prefix): array.astype(np.float64)
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
