"""What a data source yields, and the one way it becomes a `Dataset`: ids, labels and a version."""

import collections
import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence

import numpy as np

from aft_jax.data.dataset import Dataset, Examples
from aft_jax.errors import DataError

SHOWN = 5
"""Names that a message lists before it says how many more there are."""


@dataclasses.dataclass(frozen=True)
class Records:
    """The rows of one of a source's own splits, before anyone agreed on ids and class indices.

    Attributes:
        examples: n examples, decoded when asked for.
        labels: [n] class names or numbers; None, "" and -1 stand for a row without label. Numbers
            are positions in `classes` where the source publishes those.
        digests: [n] hash of each example's undecoded content, its label left out.
        ids: [n] ids that the source declares; None to make them of the digests.
        classes: class names where the source publishes them; None to list those of the train split.
        skipped: names of the rows that could not be read and were left out.
    """

    examples: Examples
    labels: Sequence[str | int | None] | np.ndarray
    digests: np.ndarray
    ids: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    skipped: tuple[str, ...] = ()


def assemble(
    records: Records, name: str, split: str, classes: tuple[str, ...] | None = None
) -> Dataset:
    """Gives every row its id and class index, and the whole a version.

    Ids made of digests get "-1", "-2", ... for rows of equal content, in the order of their labels,
    so that no id depends on a position.

    Args:
        records: what the source yielded.
        name: of the data set.
        split: name of the split.
        classes: of the train split, from `class_names`; None where this is the train split.

    Returns:
        The data set; its version is a hash of the sorted (id, digest, class name) triples.

    Raises:
        DataError: the split is empty or wholly unlabelled, declared ids are missing or not unique,
            or a label is none of the classes.
    """
    if not len(records.labels):
        left_out = f"; {len(records.skipped)} rows were skipped" if records.skipped else ""
        raise DataError(
            f"a split has at least one example; split {split!r} of data set {name!r} has "
            f"none{left_out}. Check config.data.path and the names of the splits."
        )
    where = f"split {split!r} of data set {name!r}"
    names = _names(records, where)
    ids = _ids_of(records.digests, names) if records.ids is None else _unique(records.ids, where)
    if classes is None:
        classes = class_names(records)
    return Dataset(
        name=name,
        version=_version(ids, records.digests, names),
        split=split,
        ids=ids,
        labels=_indices(names, classes, ids, where),
        classes=classes,
        examples=records.examples,
        digests=records.digests,
        skipped=records.skipped,
    )


def first_few(names: Sequence[str], shown: int = SHOWN) -> str:
    """The first names, and how many there are beyond them.

    Args:
        names: any strings.
        shown: how many to list.

    Returns:
        For example "a, b, c and 4 more".
    """
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def class_names(records: Records) -> tuple[str, ...]:
    """The classes that a train split gives to all splits.

    Args:
        records: of the train split.

    Returns:
        The names that the source publishes, else all that the labels have: whole numbers in their
        order, anything else alphabetically.

    Raises:
        DataError: no row has a label.
    """
    if records.classes is not None:
        return records.classes
    found = set(_names(records, "the train split")) - {""}
    if not found:
        raise DataError(
            "the labels of the train split name the classes; none of its "
            f"{len(records.labels)} rows has a label. Check config.data.columns.label."
        )
    if all(re.fullmatch(r"-?\d+", name) for name in found):
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def _names(records: Records, where: str) -> list[str]:
    """The label of each row as a class name; "" for none."""
    published, names = records.classes, []
    for label in records.labels:
        if label is None or str(label) in ("", "-1"):
            names.append("")
        elif published is None or isinstance(label, str):
            names.append(str(label))
        elif 0 <= label < len(published):
            names.append(published[label])
        else:
            raise DataError(
                f"a numeric label is a position among the {len(published)} published classes, or "
                f"-1 for none; {where} has label {label}. Correct the label."
            )
    return names


def _indices(names: list[str], classes: tuple[str, ...], ids: np.ndarray, where: str) -> np.ndarray:
    """[n] int32 positions in `classes`; -1 for no label."""
    index = {name: i for i, name in enumerate(classes)} | {"": -1}
    strange = [row for row, name in enumerate(names) if name not in index]
    if strange:
        first = str(ids[strange[0]])
        counts = collections.Counter(names[row] for row in strange)
        found = [f"{name!r} ({count} rows)" for name, count in sorted(counts.items())]
        raise DataError(
            f"every label is a class of the train split ({first_few(classes)}); {where} has "
            f"{first_few(found)}, first at {first!r}. Correct the labels, add such rows "
            "to the train split, or empty the labels to leave the rows unlabelled."
        )
    return np.array([index[name] for name in names], np.int32)


def _unique(ids: np.ndarray, where: str) -> np.ndarray:
    """The declared ids as strings, each there once."""
    counts = collections.Counter(map(str, ids.tolist()))
    repeated = [f"{name!r} ({count} rows)" for name, count in counts.items() if count > 1]
    if repeated or "" in counts:
        raise DataError(
            f"an id is there and belongs to one example; {where} has "
            f"{first_few(repeated) or 'an empty id'}. Correct the ids, or leave them out "
            '(config.data.columns.id = "") to have them made of the content.'
        )
    return np.array(list(counts))  # a counter keeps the order in which it met them


def _ids_of(digests: np.ndarray, names: list[str]) -> np.ndarray:
    """Ids made of the digests."""
    ids, seen = digests.astype(object), collections.Counter()
    for row in np.lexsort((np.array(names), digests)).tolist():
        digest = str(digests[row])
        ids[row] = f"{digest}-{seen[digest]}" if seen[digest] else digest
        seen[digest] += 1
    return ids.astype(str)


def _version(ids: np.ndarray, digests: np.ndarray, names: list[str]) -> str:
    triples = sorted(zip(ids.tolist(), digests.tolist(), names, strict=True))
    return hashlib.sha256(json.dumps(triples).encode()).hexdigest()[:16]
