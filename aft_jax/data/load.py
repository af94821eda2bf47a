"""From `config.data` to the examples of a split."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Sequence

from aft_jax.config import DataConfig
from aft_jax.data.dataset import Dataset
from aft_jax.data.records import Records, assemble
from aft_jax.data.sources import SOURCES
from aft_jax.data.splits import carve, overlap
from aft_jax.errors import ConfigError

_LOG = logging.getLogger(__name__)

TUNE_SALT = "aft-tune"


def load_split(config: DataConfig, role: str) -> Dataset:
    """Loads one split, by what it is for.

    Args:
        config: the data set.
        role: "train", "tune" or "test".

    Returns:
        The examples; their classes are those of the training split.

    Raises:
        ConfigError: the source, split, task or a column is unknown.
        DataError: the data cannot be read, or break a rule.
    """
    return load_splits(config, role)[0]


def load_splits(config: DataConfig, *roles: str) -> tuple[Dataset, ...]:
    """Loads several splits and reads no split of the source twice.

    Args:
        config: the data set.
        *roles: "train", "tune" or "test", each at most once.

    Returns:
        The splits in the order of the roles.

    Raises:
        ConfigError: the source, split, task or a column is unknown.
        DataError: the data cannot be read, or break a rule.
    """
    if config.source not in SOURCES:
        raise ConfigError(
            f"config.data.source is one of {', '.join(SOURCES)}; got {config.source!r}."
        )
    read: dict[str, Records] = {}

    def records(split: str) -> Records:
        if split not in read:
            read[split] = SOURCES[config.source](config, split)
        return read[split]

    loaded = []
    for role in roles:
        carved = not config.tune and role in ("train", "tune")
        whole = _assembled(config, records, config.train if carved else getattr(config, role))
        parts = carve(whole, config.tune_fraction, TUNE_SALT) if carved else (whole, whole)
        loaded.append(parts[role == "tune"])
    return tuple(loaded)


def load_uncarved(config: DataConfig) -> Dataset:
    """The whole training split in the source's own order, with what is carved out for tuning.

    Args:
        config: the data set.

    Returns:
        The examples.

    Raises:
        ConfigError: the source, split, task or a column is unknown.
        DataError: the data cannot be read, or break a rule.
    """
    whole = dataclasses.replace(config, tune=config.train, tune_fraction=0.0)
    return load_splits(whole, "train")[0]


def _assembled(config: DataConfig, records: Callable[[str], Records], split: str) -> Dataset:
    name = f"{config.name}/{config.task}" if config.task else config.name
    classes = records(split).classes
    if classes is None and split != config.train:
        classes = assemble(records(config.train), name, config.train).classes
    return assemble(records(split), name, split, classes)


def report_overlap(splits: Sequence[Dataset]) -> dict[str, int]:
    """Warns of examples that two splits share: what is trained on then also judges.

    Args:
        splits: compared two at a time, unless they are the same split under two roles.

    Returns:
        "a/b" -> how many examples of b are in a too, for the pairs that share any.
    """
    found = {}
    for first, second in itertools.combinations(splits, 2):
        shared = overlap(first, second) if first.split != second.split else None
        if shared and shared.content:
            found[f"{first.split}/{second.split}"] = shared.content
            _LOG.warning("%s", shared.describe())
    return found
