"""The `verify` verb: are the stores of a run whole, and what their teachers would compute today?"""

from collections.abc import Mapping

import numpy as np

from aft_jax.config import Config
from aft_jax.data import Dataset, load_splits
from aft_jax.errors import ConfigError, StoreError
from aft_jax.features.describe import expected_fields, store_path
from aft_jax.features.extract import require_teachers
from aft_jax.features.finite import require_finite
from aft_jax.features.prepare import make_prepare
from aft_jax.features.reader import FeatureStore, open_store
from aft_jax.teachers import Teacher, identify_teacher, make_teacher

# The distance between a stored and a recomputed row, over the length of the row. The same weights
# in another batch or on other hardware add in another order: that costs float32 1e-6 to 1e-4 over
# the depth of a network, and up to 1e-3 where products are rounded on the way (TF32). bfloat16 has
# 8 bits: half a unit in the last place is 2e-3 for one rounding, a few of which pile up in a model
# that computes in it. Another example or another checkpoint is 0.1 to 1.4 away.
TOLERANCES: Mapping[str, float] = {"float32": 1e-3, "bfloat16": 3e-2}


def verify(
    config: Config, teachers: Mapping[str, Teacher] | None = None, rows: int = 16
) -> list[str]:
    """Reads every file of a run's stores again and recomputes some of their rows.

    Args:
        config: the run's config.
        teachers: teachers made in Python, by their name in `config.teachers`; the others are
            loaded where their source is on this machine.
        rows: examples of each split to recompute, drawn by `config.seed`; 0 checks files only.

    Returns:
        A line for each store: what was found to be right, and what could not be checked.

    Raises:
        ConfigError: a teacher, source or split is unknown.
        DataError: the data cannot be read.
        StoreError: a store is missing, incomplete, damaged, or not what its teacher computes; the
            message names the worst row.
    """
    if rows < 0:
        raise ConfigError(f"--rows is a number of examples, 0 for none; got {rows}.")
    given = dict(teachers or {})
    require_teachers(config, given)
    datasets = load_splits(config.data, *config.features.splits)
    lines = []
    for name in config.teachers:
        teacher, why_not = _live(config, name, given)
        for dataset in datasets:
            lines.append(_verify_store(config, name, teacher, why_not, dataset, rows))
    return lines


def _live(config: Config, name: str, given: Mapping[str, Teacher]) -> tuple[Teacher | None, str]:
    """The teacher, or None and why it cannot be asked."""
    entry = config.teachers[name]
    if name in given:
        return given[name], ""
    if entry.kind == "imported":
        return None, "they were imported, and no teacher is there to ask"
    if identify_teacher(entry) is None:
        return None, f"teacher {name} is not on this machine (source {entry.source!r})"
    return make_teacher(entry), ""


def _verify_store(
    config: Config, name: str, teacher: Teacher | None, why_not: str, dataset: Dataset, rows: int
) -> str:
    entry = config.teachers[name]
    identity = teacher.identity if teacher else identify_teacher(entry)
    path = store_path(config, name, dataset.split)
    store = open_store(path, expected_fields(config, dataset, entry, identity))
    require_finite(store, store.rows().gather)
    files = len(store.manifest.files_sha256)
    line = f"{path}: {files} files as written, {store.manifest.shape[0]} rows finite"
    if rows == 0:
        return f"{line}; no row recomputed"
    if teacher is None:
        return f"{line}; no row recomputed: {why_not}"
    worst, tolerance, count = _recompute(config, name, teacher, dataset, store, rows)
    return f"{line}; {count} rows recomputed, at most {worst:.1e} away (allowed {tolerance:g})"


def _recompute(
    config: Config, name: str, teacher: Teacher, dataset: Dataset, store: FeatureStore, rows: int
) -> tuple[float, float, int]:
    """The largest distance of recomputed rows, the largest allowed, and how many there are."""
    random = np.random.default_rng(config.seed)
    chosen = np.sort(random.choice(len(dataset), min(rows, len(dataset)), replace=False))
    prepared = make_prepare(config, teacher, dataset, chosen, len(chosen))(0)
    named = teacher.features(prepared.inputs)
    parts = [named[part] for part in sorted(named)]
    again = np.concatenate(parts, axis=1).astype(np.float32)
    unit = max(1, store.manifest.views)
    places = (chosen[:, None] * unit + np.arange(unit)).reshape(-1)
    if prepared.views is not None and (store.views()[places] != prepared.views).any():
        raise StoreError(
            f"stored views are cut as config.augment says; those in {store.path} are at other "
            "places. This version of aft_jax draws them differently: extract again."
        )
    stored = store.rows().gather(places).astype(np.float32)
    distances = _distances(store, stored, again)
    # The coarser of the precisions in which features were computed and stored.
    coarse = "bfloat16" in (store.manifest.dtype, config.teachers[name].dtype)
    tolerance = TOLERANCES["bfloat16" if coarse else "float32"]
    worst = int(np.argmax(distances))
    if not distances[worst] <= tolerance:
        example = str(dataset.ids[places[worst] // unit])
        raise StoreError(
            f"stored features are what the teacher computes, up to {tolerance:g} of a row's "
            f"length; {store.path} differs in {np.count_nonzero(distances > tolerance)} of "
            f"{len(places)} rows, most in that of example {example!r} "
            f"(row {places[worst]}): {distances[worst]:.2g}. Delete the store and extract again."
        )
    return float(distances[worst]), tolerance, len(places)


def _distances(store: FeatureStore, stored: np.ndarray, again: np.ndarray) -> np.ndarray:
    if stored.shape != again.shape:
        raise StoreError(
            f"stored features are as wide as the teacher's; {store.path} has {stored.shape[1]} "
            f"columns, the teacher gives {again.shape[1]}. Delete the store and extract again."
        )
    lengths = np.maximum(np.linalg.norm(stored, axis=1), np.finfo(np.float32).tiny)
    return np.linalg.norm(stored - again, axis=1) / lengths
