"""The `export-official` verb: stores become feature files of the published code.

The inverse of `import_official`: {"train": [n, t], "test": [m, t]} in float32, as `torch.save`
writes it, the rows of the whole training split in the source's own order. The published code reads
one tensor per model and puts those of several side by side, so each part of a teacher with several
is a file of its own.
"""

import contextlib
import logging
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from aft_jax.config import Config
from aft_jax.data import Dataset, load_splits, load_uncarved
from aft_jax.errors import ConfigError, StoreError
from aft_jax.features.describe import expected_fields, store_path
from aft_jax.features.finite import require_finite
from aft_jax.features.manifest import has_store
from aft_jax.features.official import BATCH_ROWS
from aft_jax.features.reader import FeatureStore, open_store, require_places
from aft_jax.files import made_workdir
from aft_jax.progress import progress_bar
from aft_jax.teachers import identify_teacher

_LOG = logging.getLogger(__name__)

SPLITS = "('train', 'tune', 'test')"


def export_official(config: Config, directory: pathlib.Path) -> list[pathlib.Path]:
    """Writes the features of every teacher as a file that the published code reads.

    Args:
        config: the run's config; its stores are there, that of the test split too.
        directory: where the files go; made if need be.

    Returns:
        The files: <teacher>_<data.name>.pt, or <teacher>.<part>_<data.name>.pt for each part. One
        that is there already is replaced, at once and whole.

    Raises:
        ConfigError: there are no teachers, the stores have views, or torch is missing.
        StoreError: a store is missing or is not the run's, features are not finite, or a file
            cannot be written.
        UsageError: the directory cannot be made.
    """
    _check(config)
    splits = _load(config)
    whole = {"train": load_uncarved(config.data), "test": splits["test"]}
    _require_readable(whole.values())
    sources = {name: _open_stores(config, name, splits) for name in config.teachers}
    with made_workdir(directory):
        return [
            file
            for name, stores in sources.items()
            for file in _export_teacher(name, stores, whole, directory, config.data.name)
        ]


def _export_teacher(
    teacher: str,
    stores: Mapping[str, FeatureStore],
    whole: Mapping[str, Dataset],
    directory: pathlib.Path,
    data_name: str,
) -> list[pathlib.Path]:
    """Writes a file for each part of a teacher's features."""
    parts = next(iter(stores.values())).parts
    files = []
    for part, columns in parts.items():
        name = teacher if len(parts) == 1 else f"{teacher}.{part}"
        file = directory / f"{name}_{data_name}.pt"
        tables = {
            split: _Table(dataset, _stores_of(split, stores), columns)
            for split, dataset in whole.items()
        }
        try:
            _write(file, tables)
        except (OSError, RuntimeError) as error:  # torch raises the latter on a full disk
            raise StoreError(f"{file} cannot be written: {error}.") from error
        files.append(file)
    return files


def _check(config: Config) -> None:
    if not config.teachers:
        raise ConfigError(
            "export-official writes the features of teachers; config.teachers is empty. Name one."
        )
    if config.views:
        raise ConfigError(
            "the published files hold one row an image, of the image as it is; got "
            f"config.views={config.views}. Set config.views=0, and extract if need be."
        )
    _torch()


def _load(config: Config) -> dict[str, Dataset]:
    """The splits whose stores are read, by what they are for."""
    roles = ["train", "test"] if config.data.tune else ["train", "tune", "test"]
    if config.data.tune not in ("", config.data.test):
        _LOG.info(
            "split %r, which chooses, is a split of its own: the published files have no place "
            "for it, and it is not written",
            config.data.tune,
        )
    return dict(zip(roles, load_splits(config.data, *roles), strict=True))


def _require_readable(datasets: Iterable[Dataset]) -> None:
    for dataset in datasets:
        if dataset.skipped:
            shown = ", ".join(dataset.skipped[:5])
            raise StoreError(
                "the published files have a row for every example of a split; "
                f"{len(dataset.skipped)} of {dataset.split!r} cannot be read and have no features: "
                f"{shown}. Repair them, or take them out of the data."
            )


def _open_stores(
    config: Config, name: str, splits: Mapping[str, Dataset]
) -> dict[str, FeatureStore]:
    """The stores of a teacher, checked against the run, by the role of their split."""
    entry = config.teachers[name]
    identity = identify_teacher(entry)
    stores = {}
    for role, dataset in splits.items():
        path = store_path(config, name, dataset.split)
        if not has_store(path):
            verb = "import-official" if entry.kind == "imported" else "extract"
            raise StoreError(
                f"export-official reads a store of {', '.join(splits)} for each teacher; that of "
                f"{role} is missing: {path}. Run `aft-jax {verb}` with "
                f'--config.features.splits="{SPLITS}".'
            )
        store = open_store(path, expected_fields(config, dataset, entry, identity))
        require_finite(store, store.rows().gather)
        stores[role] = store
    found = {role: dict(store.parts) for role, store in stores.items()}
    if any(parts != found["train"] for parts in found.values()):
        raise StoreError(
            f"the stores of a teacher have the same parts and widths; those of {name} have {found}."
            " Extract them again."
        )
    return stores


def _stores_of(split: str, stores: Mapping[str, FeatureStore]) -> list[FeatureStore]:
    """The stores that hold the rows of "train" or "test"."""
    roles = ("train", "tune") if split == "train" else ("test",)
    return [stores[role] for role in roles if role in stores]


class _Table:
    """The rows of one tensor, in the order of the source, read from one store or two."""

    def __init__(self, dataset: Dataset, stores: Sequence[FeatureStore], columns: tuple[int, int]):
        self.columns = slice(*columns)
        self.shape = (len(dataset), columns[1] - columns[0])
        self.rows = [store.rows() for store in stores]
        self.places = np.stack([store.places(dataset.ids) for store in stores])
        require_places(stores[0].path, dataset.ids, self.places.max(axis=0))

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows in float32, a block at a time."""
        for start in range(0, self.shape[0], BATCH_ROWS):
            places = self.places[:, start : start + BATCH_ROWS]
            block = np.empty((places.shape[1], self.shape[1]), np.float32)
            for rows, found in zip(self.rows, places, strict=True):
                here = np.flatnonzero(found >= 0)
                block[here] = rows.gather(found[here])[:, self.columns].astype(np.float32)
            yield block


def _write(file: pathlib.Path, tables: Mapping[str, _Table]) -> None:
    """Writes the file whole or not at all; the rows pass through the disk, not through memory."""
    torch = _torch()
    partial = file.with_name(file.name + ".partial")
    total = sum(table.shape[0] for table in tables.values())
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(progress_bar(total, f"export {file}", "row"))
        stack.callback(partial.unlink, missing_ok=True)
        content = {}
        for name, table in tables.items():
            raw = file.with_name(f"{file.name}.{name}.partial")
            stack.callback(raw.unlink, missing_ok=True)
            with raw.open("wb") as rows:
                for block in table.blocks():
                    rows.write(block.data)
                    bar.update(len(block))
            # "c": torch wants memory that may be written; none of it is.
            content[name] = torch.from_numpy(np.memmap(raw, np.float32, "c", shape=table.shape))
        torch.save(content, partial)
        partial.replace(file)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ConfigError(
            "feature files of the published code are written by torch; install "
            "pip install 'aft_jax[teachers]'."
        ) from error
    return torch
