"""Data sources, splits and the order of rows."""

from collections.abc import Callable, Mapping

from aft_jax.data.dataset import Dataset as Dataset
from aft_jax.data.dataset import ids_digest as ids_digest
from aft_jax.data.digits import load_digits
from aft_jax.data.loader import PaddedRows as PaddedRows
from aft_jax.data.loader import RowOrder as RowOrder
from aft_jax.data.loader import evaluation_batches as evaluation_batches
from aft_jax.data.loader import require_whole_batch as require_whole_batch
from aft_jax.errors import ConfigError

SOURCES: Mapping[str, Callable[[str, str], Dataset]] = {"digits": load_digits}
"""Source name -> function of (split, task)."""


def load_split(source: str, split: str, task: str) -> Dataset:
    """Loads one split of a data source.

    Args:
        source: a key of `SOURCES`.
        split: name of the split in that source.
        task: what the labels are.

    Returns:
        The examples.

    Raises:
        ConfigError: the source, split or task is unknown.
    """
    if source not in SOURCES:
        raise ConfigError(f"config.data.source is one of {', '.join(SOURCES)}; got {source!r}.")
    return SOURCES[source](split, task)
