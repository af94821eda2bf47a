"""From `config.data` to the examples of a split."""

import dataclasses
import functools
import itertools
import logging
from collections.abc import Sequence

from aft_jax.config import DataConfig
from aft_jax.data.dataset import Dataset
from aft_jax.data.records import assemble, class_names
from aft_jax.data.sources import SOURCES
from aft_jax.data.splits import carve, overlap
from aft_jax.errors import ConfigError, DataError

_LOG = logging.getLogger(__name__)

ROLES = ("train", "tune", "test")
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
    strange = sorted(set(roles) - set(ROLES))
    if strange:
        raise ConfigError(f"a role is one of {', '.join(ROLES)}; got {', '.join(strange)}.")
    if config.source not in SOURCES:
        raise ConfigError(
            f"config.data.source is one of {', '.join(SOURCES)}; got {config.source!r}."
        )
    read = functools.cache(functools.partial(SOURCES[config.source], config))

    @functools.cache
    def whole(split: str) -> Dataset:
        name = f"{config.name}/{config.task}" if config.task else config.name
        return assemble(read(split), name, split, class_names(read(config.train)))

    @functools.cache
    def carved() -> tuple[Dataset, Dataset]:
        return carve(whole(config.train), config.tune_fraction, TUNE_SALT)

    loaded = []
    for role in roles:
        if not config.tune and role in ("train", "tune"):
            loaded.append(carved()[role == "tune"])
        else:
            loaded.append(whole(getattr(config, role)))
        if role != "train":
            _require_labels(loaded[-1], role)
    return tuple(loaded)


def _require_labels(dataset: Dataset, role: str) -> None:
    """A split that judges without labels would score nothing, whatever the student does."""
    if not (dataset.labels >= 0).any():
        raise DataError(
            f"config.data.{role} names a split with labels; none of the {len(dataset)} examples of "
            f"{dataset.split!r} has one. Many published test splits hide theirs: name another "
            "split, or carve one out of train with config.data.tune_fraction."
        )


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
