"""Teachers' features while a run reads them: on the device, in host memory, or on disk."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from aft_jax.errors import ConfigError, StoreError
from aft_jax.features.choice import Choice, choose
from aft_jax.features.finite import require_finite
from aft_jax.features.reader import FeatureStore, require_places
from aft_jax.features.rows import ShardRows

PLACES = {
    "device": "are kept on the device",
    "host": "are kept in host memory",
    "stream": "are streamed from disk",
}
RESIDENCIES = ("auto", *PLACES)

Gather = Callable[[Mapping[str, np.ndarray]], Mapping[str, jax.Array]]
"""Store name -> [b] rows of that store (its length for none), to name -> global [b, t]."""


@dataclasses.dataclass(frozen=True)
class TeacherFeatures:
    """The features of one split, by position in the split. Threads may share it.

    Attributes:
        dims: name -> t; a store whose teacher has several parts has a name for each, joined by a
            dot: "clip.image", "clip.text".
        residency: "device", "host" or "stream".
        missing: examples of the split without features.
        reason: why they are where they are.
    """

    dims: Mapping[str, int]
    residency: str
    missing: int
    reason: str
    _rows: Mapping[str, np.ndarray]
    _views: int
    _gather: Gather

    def batch(
        self, rows: np.ndarray, views: np.ndarray | None
    ) -> tuple[Mapping[str, jax.Array], np.ndarray]:
        """The features of a batch.

        Args:
            rows: [b] positions in the split; under several processes, those that this one loads.
            views: [b] which stored view each example shows, None for stores without views.

        Returns:
            (name -> global array [b, t] sharded by rows, in the stored dtype; [b] float32, 1 where
            every teacher has features of the example). Features that are not there are zero.

        Raises:
            ConfigError: views are given and the stores have none, or the other way round.
        """
        if (views is None) != (self._views == 0):
            raise ConfigError(
                "a batch names one view an example where config.views counts stored ones; got "
                f"views={'None' if views is None else 'numbers'} for stores with "
                f"{self._views} views."
            )
        first = {name: starts[rows] for name, starts in self._rows.items()}
        present = np.all([starts >= 0 for starts in first.values()], axis=0)
        shift = 0 if views is None else np.asarray(views)
        wanted = {name: np.where(starts < 0, -1, starts + shift) for name, starts in first.items()}
        return self._gather(wanted), present.astype(np.float32)

    def describe(self) -> str:
        """One line: what was chosen, how large it is and why."""
        names = ", ".join(f"{name} {width}" for name, width in self.dims.items())
        skipped = f"; {self.missing} examples have none" if self.missing else ""
        return f"teacher features ({names}) {PLACES[self.residency]}: {self.reason}{skipped}"


def load_features(
    stores: Mapping[str, FeatureStore],
    ids: np.ndarray,
    *,
    residency: str,
    missing: str,
    sharding: NamedSharding,
) -> TeacherFeatures:
    """Joins stores to a split and puts their features where a run reads them from.

    Args:
        stores: teacher name -> its store; all with the same views.
        ids: [n] example ids of the split.
        residency: "device", "host", "stream", or "auto" for the first of them with room.
        missing: "error", or "skip" examples that a store does not have.
        sharding: rows of a batch over the devices.

    Returns:
        The features.

    Raises:
        ConfigError: the residency is unknown.
        StoreError: an example has no features, the stores have different views, or a feature is
            not finite.
    """
    if residency not in RESIDENCIES:
        raise ConfigError(
            f"config.features.residency is one of {', '.join(RESIDENCIES)}; got {residency!r}."
        )
    views = common_views(views_of(stores))
    starts = {}
    for name, store in stores.items():
        places = store.places(ids)
        if missing != "skip":
            require_places(store.path, ids, places)
        starts[name] = np.where(places < 0, -1, places * max(1, views))
    absent = np.any([places < 0 for places in starts.values()], axis=0)
    stored = {name: store.rows() for name, store in stores.items()}
    choice = choose(residency, sum(rows.nbytes for rows in stored.values()), sharding)
    columns = columns_of(stores)
    return TeacherFeatures(
        dims={name: stop - start for name, (_, start, stop) in columns.items()},
        residency=choice.residency,
        missing=int(np.count_nonzero(absent)),
        reason=choice.reason,
        _rows=starts,
        _views=views,
        _gather=_make_gather(choice, stores, stored, columns, sharding),
    )


def common_views(views: Mapping[str, int]) -> int:
    """The views of stores that are joined; 0 where they hold whole images.

    Args:
        views: name of a store -> its views, at least one.

    Returns:
        Their number.

    Raises:
        StoreError: the stores have different ones.
    """
    if len(set(views.values())) > 1:
        raise StoreError(
            f"stores that are joined have the same number of views; got {dict(views)}. Extract "
            "them with one config.views."
        )
    return next(iter(views.values()))


def views_of(stores: Mapping[str, FeatureStore]) -> dict[str, int]:
    """Teacher name -> the views of its store."""
    return {name: store.manifest.views for name, store in stores.items()}


def columns_of(stores: Mapping[str, FeatureStore]) -> dict[str, tuple[str, int, int]]:
    """Where the features of each name are.

    Args:
        stores: teacher name -> its store.

    Returns:
        Name of the features -> (store, first column, one past the last).
    """
    return {
        f"{name}.{part}" if len(store.parts) > 1 else name: (name, *bounds)
        for name, store in stores.items()
        for part, bounds in store.parts.items()
    }


def _make_gather(
    choice: Choice,
    stores: Mapping[str, FeatureStore],
    stored: Mapping[str, ShardRows],
    columns: Mapping[str, tuple[str, int, int]],
    sharding: NamedSharding,
) -> Gather:
    if choice.residency == "stream":
        return _from_host({name: rows.gather for name, rows in stored.items()}, columns, sharding)
    resident = {name: _Resident(rows.read_all()) for name, rows in stored.items()}
    for name, rows in resident.items():
        require_finite(stores[name], rows.gather)
    if choice.residency == "device":
        return _from_device(
            {name: rows.array for name, rows in resident.items()}, columns, sharding
        )
    return _from_host({name: rows.gather for name, rows in resident.items()}, columns, sharding)


class _Resident:
    """Rows of an array in host memory."""

    def __init__(self, array: np.ndarray):
        self.array = array
        # Bytes are copied; NumPy is several times slower with types that are not its own.
        self._plain = array.view(f"u{array.dtype.itemsize}")

    def gather(self, rows: np.ndarray) -> np.ndarray:
        return self._plain[rows].view(self.array.dtype)


def _from_host(
    gathers: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    columns: Mapping[str, tuple[str, int, int]],
    sharding: NamedSharding,
) -> Gather:
    def gather(wanted: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        found = {}
        for name, rows in wanted.items():
            values = gathers[name](np.maximum(rows, 0))
            values[rows < 0] = 0
            found[name] = values
        return {
            label: jax.make_array_from_process_local_data(
                sharding, np.ascontiguousarray(found[name][:, start:stop])
            )
            for label, (name, start, stop) in columns.items()
        }

    return gather


def _from_device(
    arrays: Mapping[str, np.ndarray],
    columns: Mapping[str, tuple[str, int, int]],
    sharding: NamedSharding,
) -> Gather:
    everywhere = NamedSharding(sharding.mesh, P())
    tables = {
        name: jax.make_array_from_process_local_data(everywhere, array)
        for name, array in arrays.items()
    }

    def pick(tables: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, jax.Array]:
        found = {}
        for name, rows in wanted.items():
            there = jnp.take(tables[name], jnp.maximum(rows, 0), axis=0)
            found[name] = jnp.where((rows >= 0)[:, None], there, jnp.zeros_like(there))
        return {label: found[name][:, start:stop] for label, (name, start, stop) in columns.items()}

    compiled = jax.jit(pick, out_shardings=sharding)

    def gather(wanted: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        rows = {
            name: jax.make_array_from_process_local_data(sharding, value.astype(np.int32))
            for name, value in wanted.items()
        }
        return compiled(tables, rows)

    return gather
