"""The `rank` verb: teachers and sets of teachers, scored before any student is trained.

Only the training split is read: its stored features, its labels, and what the student itself makes
of the same examples before its first step.
"""

import dataclasses
import itertools
import logging
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from aft_jax.config import Config
from aft_jax.data import Dataset, load_split
from aft_jax.data.dataset import take
from aft_jax.data.images import stored_view
from aft_jax.errors import ConfigError, StoreError, UsageError
from aft_jax.experiments.ranking.table import Ranked, Ranking, best_first, save_ranking
from aft_jax.features import read_whole
from aft_jax.losses.factors import named_factors
from aft_jax.progress import progress_bar
from aft_jax.scores import combined, osborn, score
from aft_jax.training.batches import (
    StudentData,
    open_stores,
    read_by_student,
    require_teachers,
)
from aft_jax.training.evidence import start_features
from aft_jax.training.experiment import Experiment, build, initial_state
from aft_jax.training.run_data import RunData
from aft_jax.training.start import starts_at_random
from aft_jax.types import Student

_LOG = logging.getLogger(__name__)

MAX_ROWS = 50_000
"""Examples that are scored; of a larger split a part with the same shares of the classes."""

PAIRED = 4
"""Teachers, the best ones, of which every pair is scored."""


def rank(config: Config, workdir: pathlib.Path | None = None) -> Ranking:
    """Scores each teacher of a config, pairs of them, all together, and the student itself.

    Args:
        config: names the teachers, their stores and the student; method, beta and steps are not
            used. Of stores with views the first view is scored.
        workdir: where rank.json and rank.csv are written; None to write nothing.

    Returns:
        The ranking, best first.

    Raises:
        ConfigError: there are no teachers, or a name in the config is unknown.
        DataError: the data cannot be read, or break a rule.
        StoreError: a store is missing, does not belong to this teacher and these examples, or has
            features that are not finite.
        UsageError: too few examples have labels, or the student's features are not finite.
    """
    began = time.monotonic()
    if not config.teachers:
        raise ConfigError(
            "rank scores the teachers of the config; config.teachers is empty. Name them there."
        )
    require_teachers(config)
    train = load_split(config.data, "train")
    dataset, features, missing = _scored_examples(config, train)
    experiment = _untrained(config, dataset)
    pairs = min(len(features), PAIRED)
    count = 1 + len(features) + pairs * (pairs - 1) // 2 + (len(features) > 2)
    with progress_bar(count, "rank", "set") as bar:
        ranked = _rank_all(experiment, features, bar)
    ranking = Ranking(
        dataset=train.name,
        rows=len(dataset),
        of_rows=len(train),
        unlabelled=int(np.count_nonzero(train.labels < 0)),
        missing=missing,
        classes=len(train.classes),
        student=config.student.name,
        random_start=starts_at_random(experiment.weights),
        ranked=best_first(ranked),
        seconds=time.monotonic() - began,
    )
    if workdir is not None:
        save_ranking(ranking, workdir)
    return ranking


def sampled_rows(labels: np.ndarray, most: int) -> np.ndarray:
    """A part of the labelled rows that has the shares of the classes, always the same.

    Args:
        labels: [n] class indices; -1 for a row without label.
        most: rows to keep.

    Returns:
        [m] positions, rising; every class keeps at least one row while there are more rows to keep
        than classes.
    """
    rows = np.flatnonzero(labels >= 0)
    if len(rows) <= most:
        return rows
    shuffled = np.random.default_rng(0).permutation(rows)
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels[order])
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    # The first row of each class, then the second of each at its pace: shares stay even.
    urgency = place / np.repeat(counts, counts)
    return np.sort(order[np.argsort(urgency, kind="stable")[:most]])


def _scored_examples(config: Config, train: Dataset) -> tuple[Dataset, dict[str, np.ndarray], int]:
    """(the examples, teacher name -> [n, t] their features, how many had none somewhere)."""
    stores = open_stores(config, train)
    rows = sampled_rows(train.labels, MAX_ROWS)
    if not len(rows):
        raise UsageError(f"rank needs labels; none of the {len(train)} training examples has one.")
    found = read_whole(stores, train.ids[rows], views=(0,), missing=config.features.missing)
    if not found.present.any():
        raise StoreError(
            f"examples that are scored have features of every teacher; none of the {len(rows)} "
            "does. Extract the features of the training split again."
        )
    features = {}
    for name, store in stores.items():  # the parts of one teacher are one candidate
        labels = [name] if len(store.parts) == 1 else [f"{name}.{part}" for part in store.parts]
        whole = np.concatenate([found.named[label] for label in labels], axis=1)
        features[name] = whole[found.present]
    missing = int(np.count_nonzero(~found.present))
    return take(train, rows[found.present]), features, missing


def _untrained(config: Config, dataset: Dataset) -> Experiment:
    """The student before its first step, with these examples as its data.

    Nothing is trained, so any number of rows will do, and any batch that the devices can share.
    """
    devices = config.devices or len(jax.devices())
    batch_size = -(-config.batch_size // devices) * devices
    if len(dataset) < batch_size:
        devices, batch_size = 1, len(dataset)
    plain = dataclasses.replace(
        config, method="stl", method_options={}, batch_size=batch_size, devices=devices
    )
    data = read_by_student(config, dataset)
    return build(plain, RunData(data, data))


def _rank_all(
    experiment: Experiment, features: Mapping[str, np.ndarray], bar: tqdm
) -> list[Ranked]:
    dataset = experiment.train.dataset

    def scored(members: Sequence[str], values: np.ndarray, width: int) -> Ranked:
        try:
            scores = score(values, dataset.labels, len(dataset.classes))
        except ValueError as error:
            who = " + ".join(members) or "the student"
            raise UsageError(f"the features of {who} cannot be scored: {error}") from error
        bar.update()
        return Ranked(tuple(members), width, scores)

    own = _own_features(experiment)
    ranked = [scored((), own, own.shape[1])]
    singles = {name: scored((name,), x, x.shape[1]) for name, x in features.items()}
    for members in _sets([row.members[0] for row in best_first(list(singles.values()))]):
        parts = [features[name] for name in members]
        row = scored(members, combined(parts), sum(part.shape[1] for part in parts))
        predictions = [singles[name].scores.probe.predictions for name in members]
        ranked.append(dataclasses.replace(row, osborn=osborn(predictions, dataset.labels)))
    return [*ranked, *singles.values()]


def _sets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Pairs of the best teachers, and all of them; `names` are best first."""
    everyone = [tuple(names)] if len(names) > 2 else []
    return [*itertools.combinations(names[:PAIRED], 2), *everyone]


def _own_features(experiment: Experiment) -> np.ndarray:
    config, data = experiment.config, experiment.train
    if config.views > 0:  # the view that the teachers' first features are of
        data = StudentData(data.dataset, _first_view(data))
    variables = initial_state(experiment, config.seed).variables
    student = _side_by_side(experiment.student)
    return start_features(student, variables, data, config.batch_size, experiment.mesh)


def _first_view(data: StudentData) -> Any:
    def inputs(rows: np.ndarray, *, views: Any = None, among: Any = None) -> Any:
        keys = [stored_view(name, 0) for name in data.dataset.ids[rows].tolist()]
        return data.inputs(rows, views=keys, among=among)

    return inputs


def _side_by_side(student: Student) -> Student:
    """The student with factors of a tensor product, too wide to score, as one array."""

    def apply(*arguments: Any) -> Any:
        output, variables = student.apply(*arguments)
        factors = list(named_factors(output.features).values())
        return output._replace(features=jnp.concatenate(factors, axis=1)), variables

    return student._replace(apply=apply)
