"""The `import-official` verb: feature files of the published code become stores.

Such a file is what `torch.save` makes of {"train": [n, t], "test": [m, t]}: the rows of the whole
training split in the source's own order, and those of the test split, which few runs need. An .npz
of the same two arrays will do.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from aft_jax.config import Config, TeacherConfig
from aft_jax.data import Dataset, load_splits, load_uncarved
from aft_jax.errors import ConfigError, StoreError
from aft_jax.features.describe import expected_fields, store_path, whole_fields
from aft_jax.features.manifest import has_store
from aft_jax.features.reader import open_store
from aft_jax.features.shard_buffer import write_store
from aft_jax.teachers import identify_teacher

KEYS = ("train", "test")
BATCH_ROWS = 4096


def import_official(config: Config, path: str, teacher: str) -> list[str]:
    """Makes the stores of a run from a feature file of the published code.

    Args:
        config: its data set is the one that the file was made from.
        path: the .pt or .npz file.
        teacher: name of an entry of `config.teachers` of kind "imported".

    Returns:
        The paths of the stores: train, tune where it is carved out of train, and test where
        `config.features.splits` has it. One that is there already is kept if it is the right one.

    Raises:
        ConfigError: the teacher is not in the config or of another kind, or torch is missing.
        StoreError: the file cannot be read, is none of these, has another number of rows than the
            data set or features that are not finite, or another store is there already.
    """
    entry = _entry(config, path, teacher)
    found = _read(path)
    whole = load_uncarved(config.data)
    _require_rows(path, "train", found["train"], whole)
    # A tune split of its own is not in the file: it stays without features.
    roles = ["train"] if config.data.tune else ["train", "tune"]
    roles += ["test"] if "test" in config.features.splits else []
    splits = dict(zip(roles, load_splits(config.data, *roles), strict=True))
    if "test" in splits:
        _require_rows(path, "test", found["test"], splits["test"])
    identity = identify_teacher(dataclasses.replace(entry, source=str(path)))
    stores = []
    for role, dataset in splits.items():
        store = store_path(config, teacher, dataset.split)
        about = (config, dataset, entry, identity)
        stores.append(store)
        if has_store(store):
            open_store(store, expected_fields(*about))  # another one is refused here, not kept
            continue
        features = found["test" if role == "test" else "train"]
        places = np.arange(len(dataset)) if role == "test" else _places(whole, dataset)
        batches = _batches(features, places)
        fields = whole_fields(*about)
        write_store(store, dataset.ids, batches, features.shape[1], teacher_parameters=0, **fields)
    return stores


def _entry(config: Config, path: str, teacher: str) -> TeacherConfig:
    """The teacher that the features are imported for."""
    entry = config.teachers.get(teacher)
    if entry is None or entry.kind != "imported":
        kind = "is not there" if entry is None else f"has kind {entry.kind!r}"
        raise ConfigError(
            f'features are imported for a teacher of kind "imported"; config.teachers.{teacher} '
            f'{kind}. Set config.teachers.{teacher} = teacher("imported", {path!r}).'
        )
    if config.views:
        raise ConfigError(
            "the published files hold features of images as they are; got "
            f"config.views={config.views}. Set config.views=0."
        )
    return entry


def _require_rows(path: str, key: str, features: Any, dataset: Dataset) -> None:
    if len(features) != len(dataset):
        whole = "whole training" if key == "train" else "test"
        raise StoreError(
            f'"{key}" has one row for each example of the {whole} split; {path} has '
            f"{len(features)} rows, {dataset.name} {dataset.split} has {len(dataset)} examples. "
            "Look at config.data: version, split, and on_error, which must not skip."
        )


def _read(path: str) -> Mapping[str, Any]:
    """The arrays of the file; those of a .pt are mapped, not read, and nothing in it is run."""
    if not pathlib.Path(path).is_file():
        raise StoreError(f"the features to import are a file; there is none at {path}.")
    load = _from_npz if path.endswith(".npz") else _from_torch
    # What is raised for a file of another kind, or one that holds more than arrays, varies.
    try:
        found = load(path)
    except ConfigError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(
            f"the features to import are tensors saved by torch.save, or an .npz; {path} cannot be "
            f"read as such: {reason} Nothing that a file could run is run."
        ) from error
    keys = sorted(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
    # Files that B-Tuning was prepared with hold scores beside the features.
    if not isinstance(found, Mapping) or not set(KEYS) <= set(found):
        raise StoreError(
            f'the published feature files hold "train" and "test"; {path} holds {keys}. Save '
            '{"train": [n, t], "test": [m, t]}.'
        )
    for key in KEYS:
        value = found[key]
        floats = "float" in str(getattr(value, "dtype", ""))
        if not (floats and value.ndim == 2):
            what = getattr(value, "shape", type(value).__name__)
            raise StoreError(f"{key!r} holds floats [rows, width]; {path} holds {what}.")
    return found


def _from_npz(path: str) -> Mapping[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _from_torch(path: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ConfigError(
            "feature files of the published code are read by torch; install "
            "pip install 'aft_jax[teachers]'."
        ) from error
    return torch.load(path, weights_only=True, map_location="cpu", mmap=True)


def _places(whole: Dataset, dataset: Dataset) -> np.ndarray:
    """Where the examples of a split are in the file."""
    rows = {name: row for row, name in enumerate(whole.ids.tolist())}
    return np.array([rows[name] for name in dataset.ids.tolist()])


def _batches(features: Any, places: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(places), BATCH_ROWS):
        part = features[places[start : start + BATCH_ROWS].tolist()]
        yield part if isinstance(part, np.ndarray) else part.float().numpy()
