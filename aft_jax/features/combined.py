"""Features that are loaded already, put together: teachers side by side, splits one after another.

Nothing is read or copied; a batch is gathered from the parts.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from aft_jax.features.residency import Source, TeacherFeatures, common_views
from aft_jax.types import PyTree


def side_by_side(parts: Sequence[TeacherFeatures]) -> TeacherFeatures:
    """The features of several teachers of one split as if they had been loaded together.

    Args:
        parts: at least one, each of other teachers.

    Returns:
        The features of all.

    Raises:
        StoreError: the stores have different numbers of views.
    """
    common_views({name: part._views for part in parts for name in part.dims})
    rows = {name: starts for part in parts for name, starts in part._rows.items()}

    def load(wanted: Mapping[str, np.ndarray]) -> PyTree:
        return [part.source.load({name: wanted[name] for name in part._rows}) for part in parts]

    def gather(tables: PyTree, loaded: PyTree) -> dict[str, jax.Array]:
        found: dict[str, jax.Array] = {}
        for part, *arguments in zip(parts, tables, loaded, strict=True):
            found |= part.source.gather(*arguments)
        return found

    absent = np.any([starts < 0 for starts in rows.values()], axis=0)
    return dataclasses.replace(
        parts[0],
        dims={name: width for part in parts for name, width in part.dims.items()},
        residency=_slowest([part.residency for part in parts]),
        missing=int(np.count_nonzero(absent)),
        reason="; ".join(dict.fromkeys(part.reason for part in parts)),
        source=Source([part.source.tables for part in parts], load, gather),
        _rows=rows,
    )


def one_after_another(first: TeacherFeatures, second: TeacherFeatures) -> TeacherFeatures:
    """The features of two splits of the same teachers; the rows of the second come last.

    Args:
        first: of one split.
        second: of the other.

    Returns:
        The features of both.
    """
    # A store's row numbers start anew in each split: those of the second are moved past the first.
    ends = {name: starts.max() + max(1, first._views) for name, starts in first._rows.items()}

    def moved(name: str, starts: np.ndarray) -> np.ndarray:
        return np.where(starts < 0, -1, starts + ends[name])

    def load(wanted: Mapping[str, np.ndarray]) -> PyTree:
        in_first = {name: np.where(rows < ends[name], rows, -1) for name, rows in wanted.items()}
        in_second = {
            name: np.where(rows < ends[name], -1, rows - ends[name])
            for name, rows in wanted.items()
        }
        return first.source.load(in_first), second.source.load(in_second)

    def gather(tables: PyTree, loaded: PyTree) -> dict[str, jax.Array]:
        early = first.source.gather(tables[0], loaded[0])
        late = second.source.gather(tables[1], loaded[1])
        # What is not there comes back zero, so that the sum is whichever part has the row.
        return {name: early[name] + late[name] for name in early}

    return dataclasses.replace(
        first,
        residency=_slowest([first.residency, second.residency]),
        missing=first.missing + second.missing,
        reason="; ".join(dict.fromkeys([first.reason, second.reason])),
        source=Source((first.source.tables, second.source.tables), load, gather),
        _rows={
            name: np.concatenate([starts, moved(name, second._rows[name])])
            for name, starts in first._rows.items()
        },
    )


def _slowest(residencies: Sequence[str]) -> str:
    return max(residencies, key=("device", "host", "stream").index)
