"""The `extract` verb: every teacher's features of the splits that a run reads."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from aft_jax.config import Config, TeacherConfig
from aft_jax.data import Dataset, load_splits, prefetched
from aft_jax.distributed import meet, place_among_processes
from aft_jax.errors import ConfigError, StoreError
from aft_jax.features.describe import expected_fields, store_path, whole_fields
from aft_jax.features.kv import Directory
from aft_jax.features.manifest import Plan, has_store, read_plan, require
from aft_jax.features.prepare import Prepared, make_prepare, require_images
from aft_jax.features.reader import open_store
from aft_jax.features.shard_buffer import ShardBuffer
from aft_jax.features.writer import StoreWriter, check_ids, finished_shards, make_plan
from aft_jax.progress import progress_bar
from aft_jax.teachers import Teacher, TeacherIdentity, identify_teacher, make_teacher


def extract(config: Config, teachers: Mapping[str, Teacher] | None = None) -> list[str]:
    """Computes and stores every teacher's features of the splits in `config.features.splits`, once.

    A store that is there already is kept if it is whole and the right one, gone on with if it was
    interrupted, else refused. With `config.features.processes` above 1, or where the processes of a
    run have found each other, every process computes its own shards and the first one completes the
    stores when all are there.

    Args:
        config: the run's config.
        teachers: teachers made in Python, by their name in `config.teachers`; the others are
            loaded.

    Returns:
        The paths of the stores.

    Raises:
        ConfigError: a teacher, source or split is unknown, or views of something else than images
            are asked for.
        DataError: the data cannot be read.
        StoreError: a store belongs to another teacher or other data, cannot be written, a split is
            empty or its ids repeat, or features are not finite.
    """
    given = dict(teachers or {})
    config = _shared_out(config)
    require_teachers(config, given)
    if config.views < 0:
        raise ConfigError(
            "stored views are counted by config.views; -1 cuts fresh ones in training, which no "
            "store has. Set config.views to how many, or to 0."
        )
    datasets = load_splits(config.data, *config.features.splits)
    stores = []
    for name in config.teachers:
        identity, load = _teacher(config.teachers[name], given.get(name))
        for dataset in datasets:
            path = store_path(config, name, dataset.split)
            about = (config, dataset, config.teachers[name], identity)
            if has_store(path):
                open_store(path, expected_fields(*about))  # a damaged one is refused here, not kept
            else:
                _extract_split(config, load(), dataset, path, whole_fields(*about))
            stores.append(path)
    meet("extracted")
    return stores


def _shared_out(config: Config) -> Config:
    """The config with this process's share, where `jax.distributed` knows it."""
    number, total = place_among_processes()
    if total == 1:
        return config
    given = (config.features.process, config.features.processes)
    if config.features.processes > 1 and given != (number, total):
        raise ConfigError(
            "config.features.processes is 1 where the processes of a run find each other; got "
            f"{given[0]} of {given[1]} in process {number} of {total}. Leave both keys out."
        )
    share = dataclasses.replace(config.features, process=number, processes=total)
    return dataclasses.replace(config, features=share)


def require_teachers(config: Config, given: Mapping[str, Teacher]) -> None:
    """Refuses a run without teachers, and teachers that it does not name.

    Args:
        config: the run's config.
        given: teachers made in Python.

    Raises:
        ConfigError: there are none, or one is not in `config.teachers`.
    """
    if not config.teachers:
        raise ConfigError("extract needs a teacher; config.teachers is empty. Name at least one.")
    strangers = sorted(set(given) - set(config.teachers))
    if strangers:
        raise ConfigError(
            f"teachers given in Python are named in config.teachers, which has "
            f"{', '.join(config.teachers)}; got {', '.join(strangers)}. Add them there."
        )
    for name, teacher in given.items():
        if not isinstance(teacher, Teacher):
            raise ConfigError(
                f"a teacher given in Python is an aft_jax.teachers.Teacher; {name} is "
                f"{type(teacher).__name__}. Wrap a function of examples in "
                "aft_jax.teachers.function_teacher."
            )


def _teacher(
    entry: TeacherConfig, given: Teacher | None
) -> tuple[TeacherIdentity, Callable[[], Teacher]]:
    """What a teacher is, and how to get it: none is loaded for stores that are complete."""
    if given is not None:
        return given.identity, lambda: given
    load = functools.cache(lambda: make_teacher(entry))
    return identify_teacher(entry) or load().identity, load


def _extract_split(
    config: Config, teacher: Teacher, dataset: Dataset, path: str, expected: dict[str, Any]
) -> None:
    check_ids(dataset.ids)
    if config.views:
        require_images(dataset)
    store = Directory(path)
    begun = read_plan(store)
    if begun is not None and not finished_shards(store):
        begun = None  # nothing is lost by beginning again, maybe with another config
    if begun is not None:
        require(path, begun, expected)
    _Work(config, teacher, dataset, store, expected, begun).run()


@dataclasses.dataclass(frozen=True)
class _Work:
    """The extraction of one split by one process."""

    config: Config
    teacher: Teacher
    dataset: Dataset
    store: Directory
    expected: dict[str, Any]
    begun: Plan | None

    def run(self) -> None:
        features = self.config.features
        plan = self.begun or self._plan(self._first_outputs())
        writer = StoreWriter(self.store, self.dataset.ids, plan)
        pending = writer.pending(features.process, features.processes)
        if pending:
            self._compute(writer, pending)
        if features.process == 0:
            writer.finish()

    def _compute(self, writer: StoreWriter, pending: list[int]) -> None:
        features, plan = self.config.features, writer.plan
        unit = max(1, plan.views)
        bounds = [plan.rows_of(shard) for shard in pending]
        examples = np.concatenate(
            [np.arange(start // unit, stop // unit) for start, stop in bounds]
        )
        rows = len(examples) * unit
        size = min(max(1, features.batch_size // unit), len(examples))
        prepare = make_prepare(self.config, self.teacher, self.dataset, examples, size)
        batches = prefetched(
            prepare, 0, -(-len(examples) // size), features.threads, features.threads
        )
        buffer = ShardBuffer(writer, pending, time.monotonic())
        mine = len(range(features.process, plan.shards, features.processes))
        before = (mine - len(pending)) * plan.shard_rows
        with progress_bar(rows + before, f"extract {self.store.path}", "row") as progress:
            _begin_at(progress, before)
            for batch in batches:
                named = self.teacher.features(batch.inputs)
                buffer.add(self._side_by_side(named, plan, batch), batch.views)
                progress.update(batch.rows)
        buffer.close()

    def _first_outputs(self) -> Mapping[str, np.ndarray]:
        """What the teacher makes of one example: its parts and their widths."""
        prepare = make_prepare(self.config, self.teacher, self.dataset, np.zeros(1, int), 1)
        return self.teacher.features(prepare(0).inputs)

    def _plan(self, named: Mapping[str, np.ndarray]) -> Plan:
        edges = np.cumsum([0, *(named[part].shape[1] for part in sorted(named))]).tolist()
        parts = dict(zip(sorted(named), itertools.pairwise(edges), strict=True))
        return make_plan(
            self.dataset.ids,
            parts,
            processes=self.config.features.processes,
            teacher_parameters=self.teacher.parameters,
            **self.expected,
        )

    def _side_by_side(
        self, named: Mapping[str, np.ndarray], plan: Plan, batch: Prepared
    ) -> np.ndarray:
        """The parts of a batch as the columns of the store."""
        found = {part: named[part].shape[1:] for part in sorted(named)}
        widths = {part: (stop - start,) for part, (start, stop) in plan.parts.items()}
        if found != widths:
            raise StoreError(
                f"a teacher's features keep their parts and widths; {self.store.path} was begun "
                f"with {widths}, the teacher now gives {found}. Extract into another "
                "config.features.directory."
            )
        return np.concatenate([named[part] for part in sorted(named)], axis=1)


def _begin_at(progress: tqdm, rows: int) -> None:
    """Counts rows as done without counting them into the rate."""
    progress.initial = progress.n = min(rows, progress.total)
    progress.refresh()
