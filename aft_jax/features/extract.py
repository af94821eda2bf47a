"""The `extract` verb: every teacher's features of the splits that training and tuning read."""

import pathlib
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from aft_jax.config import Config
from aft_jax.data import Dataset, load_split
from aft_jax.errors import ConfigError
from aft_jax.features.manifest import describe, describe_teacher
from aft_jax.features.reader import open_store
from aft_jax.features.writer import check_ids, write_store
from aft_jax.progress import progress_bar
from aft_jax.teachers import Teacher, make_teacher

BATCH_ROWS = 256


def store_path(config: Config, teacher: str, split: str) -> pathlib.Path:
    """Where one teacher's features of one split are: features_dir/teacher/source-task-split."""
    data = config.data
    return pathlib.Path(config.features_dir) / teacher / f"{data.source}-{data.task}-{split}"


def extract(config: Config) -> list[pathlib.Path]:
    """Computes and stores every teacher's features of the train and tune splits, once.

    A store that is there already is kept if it is whole and the right one, else refused. The test
    split gets no features: a student needs none to be evaluated.

    Args:
        config: the run's config.

    Returns:
        The directories of the stores.

    Raises:
        ConfigError: a teacher, source or split is unknown.
        StoreError: an existing store belongs to another teacher or other data, a split is empty or
            its ids repeat, or features are not finite.
    """
    if not config.teachers:
        raise ConfigError("extract needs a teacher; config.teachers is empty. Name at least one.")
    stores = []
    for name, teacher_config in config.teachers.items():
        teacher = make_teacher(teacher_config)
        for split in (config.data.train, config.data.tune):
            dataset = load_split(config.data.source, split, config.data.task)
            store = store_path(config, name, split)
            _extract_split(teacher, dataset, store)
            stores.append(store)
    return stores


def _extract_split(teacher: Teacher, dataset: Dataset, store: pathlib.Path) -> None:
    described = describe(dataset) | describe_teacher(teacher.identity)
    if store.exists():
        open_store(store, described)  # a damaged one is refused here, not kept
        return
    check_ids(dataset.ids)
    width = next(_batches(teacher, dataset.inputs[:1], None)).shape[1]
    with progress_bar(len(dataset), f"extract {store}", "row") as progress:
        write_store(
            store,
            dataset.ids,
            _batches(teacher, dataset.inputs, progress),
            width,
            teacher_parameters=teacher.parameters,
            **described,
        )


def _batches(teacher: Teacher, inputs: np.ndarray, progress: tqdm | None) -> Iterator[np.ndarray]:
    """A teacher's features batch by batch; where it names several, they stand side by side.

    The last batch is filled up to the shape of the others, so that the teacher compiles once.
    """
    for start in range(0, len(inputs), BATCH_ROWS):
        part = inputs[start : start + BATCH_ROWS]
        filling = np.repeat(part[:1], BATCH_ROWS - len(part), axis=0)
        named = teacher.features(np.concatenate([part, filling]))
        features = np.concatenate([named[name] for name in sorted(named)], axis=1)
        if progress is not None:
            progress.update(len(part))
        yield features[: len(part)]
