"""Splits by a hash of the example's id, never by its position or by a random state."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping

import numpy as np

from aft_jax.data.dataset import Dataset, take
from aft_jax.errors import ConfigError, DataError

SHOWN_PAIRS = 5
"""Pairs of ids that an overlap lists."""


def stratified_splits(
    ids: np.ndarray, labels: np.ndarray, fractions: Mapping[str, float], salt: str
) -> dict[str, np.ndarray]:
    """Cuts a data set into named splits with the same share of every class.

    Within each class the examples are ordered by a hash of (salt, id) and dealt out in that order,
    so an example's split does not depend on the order of the file.

    Args:
        ids: [n] example ids.
        labels: [n] class indices.
        fractions: split name -> share of the examples; they add up to one.
        salt: names this way of cutting; another salt gives another, independent one.

    Returns:
        Split name -> sorted positions; every example is in exactly one.

    Raises:
        ValueError: the fractions do not add up to one.
    """
    if not math.isclose(sum(fractions.values()), 1.0):
        raise ValueError(f"split fractions add up to 1; got {dict(fractions)}.")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in fractions}
    edges = np.cumsum([0.0, *fractions.values()])
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        keys = [hashlib.sha256(f"{salt}/{ids[row]}".encode()).hexdigest() for row in members]
        ordered = members[np.argsort(keys)]
        cuts = np.rint(edges * len(ordered)).astype(int)
        for name, start, stop in zip(parts, cuts[:-1], cuts[1:], strict=True):
            parts[name].append(ordered[start:stop])
    return {name: np.sort(np.concatenate(pieces)) for name, pieces in parts.items()}


def carve(dataset: Dataset, fraction: float, salt: str) -> tuple[Dataset, Dataset]:
    """Cuts a tune split out of a train split that has none.

    Every class gives the same share, picked by a hash of the id, so the cut does not depend on the
    order of the file. Rows without label all stay in train, and so does every copy of a row that
    does: tune shares no content with the rest.

    Args:
        dataset: the train split.
        fraction: share of the labelled rows that becomes tune.
        salt: names this way of cutting.

    Returns:
        (rest, tune); their splits are named "<split>-rest<fraction>" and "<split>-tune<fraction>".

    Raises:
        ConfigError: the fraction is not between 0 and 1.
        DataError: the split is too small to give this share.
    """
    if not 0 < fraction < 1:
        raise ConfigError(
            "config.data.tune_fraction is between 0 and 1 where config.data.tune is empty; "
            f"got {fraction}."
        )
    labelled = np.flatnonzero(dataset.labels >= 0)
    # Tune comes first: rounding then gives a class of one row to train for any share up to 1/2.
    fractions = {"tune": fraction, "rest": 1 - fraction}
    places = stratified_splits(dataset.ids[labelled], dataset.labels[labelled], fractions, salt)
    tune = labelled[places["tune"]]
    rest = np.setdiff1d(np.arange(len(dataset)), tune)
    if len(dataset.digests):
        tune = tune[~np.isin(dataset.digests[tune], dataset.digests[rest])]
        rest = np.setdiff1d(np.arange(len(dataset)), tune)
    if not len(tune) or not len(rest):
        raise DataError(
            f"config.data.tune_fraction leaves rows to both train and tune; {fraction} of split "
            f"{dataset.split!r} with {len(labelled)} labelled rows in {len(dataset.classes)} "
            "classes does not. Choose another fraction, or name a tune split."
        )
    names = carved_names(dataset.split, fraction)
    return take(dataset, rest, split=names[0]), take(dataset, tune, split=names[1])


def carved_names(split: str, fraction: float) -> tuple[str, str]:
    """What `carve` calls the (rest, tune) of a split."""
    return f"{split}-rest{fraction:g}", f"{split}-tune{fraction:g}"


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Examples that two splits share.

    Attributes:
        splits: names of the two.
        content: examples of the second that the first has too: those of equal content, or of equal
            id where contents are not known.
        ids: examples of the second whose id the first has for other content. Harmless where names
            are counted anew in each split; else one example in two versions.
        pairs: ids (in the first, in the second) of the first few, those of equal content first.
    """

    splits: tuple[str, str]
    content: int
    ids: int
    pairs: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        """One sentence for a report."""
        first, second = self.splits
        shown = ", ".join(f"{a} = {b}" for a, b in self.pairs)
        ids = f", and {self.ids} ids that stand for other content in each" if self.ids else ""
        return (
            f"splits {first!r} and {second!r} share {self.content} examples{ids}; "
            f"for example {shown}."
        )


def overlap(a: Dataset, b: Dataset) -> Overlap | None:
    """Looks for examples that two splits share, by content and by id.

    Args:
        a: one split.
        b: the other.

    Returns:
        What they share; None if nothing.
    """
    known = bool(len(a.digests) and len(b.digests))
    by_digest = dict(zip(a.digests.tolist(), a.ids.tolist(), strict=True)) if known else {}
    digests = b.digests.tolist() if known else [None] * len(b)
    ids = set(a.ids.tolist())
    shared, same_id = [], []
    for name, digest in zip(b.ids.tolist(), digests, strict=True):
        if digest in by_digest:
            shared.append((by_digest[digest], name))
        elif name in ids:
            (same_id if known else shared).append((name, name))
    if not shared and not same_id:
        return None
    pairs = tuple((shared + same_id)[:SHOWN_PAIRS])
    return Overlap((a.split, b.split), len(shared), len(same_id), pairs)
