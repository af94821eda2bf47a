"""Teachers' features while a run reads them: on the device, in host memory, or on disk."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
from aft_jax.types import PyTree

PLACES = {
    "device": "are kept on the device",
    "host": "are kept in host memory",
    "stream": "are streamed from disk",
}
RESIDENCIES = ("auto", *PLACES)


class Source(NamedTuple):
    """Where features come from, in a part for the host and a pure one for the device.

    Attributes:
        tables: a tree of arrays, whole on every device; without leaves where the host reads rows.
        load: store name -> [b] rows of that store (-1 for none), to a tree of host arrays with b
            rows.
        gather: (tables, what `load` returned) -> name -> [b, t]; to be called under jit.
    """

    tables: PyTree
    load: Callable[[Mapping[str, np.ndarray]], PyTree]
    gather: Callable[[PyTree, PyTree], Mapping[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class TeacherFeatures:
    """The features of one split, by position in the split. Threads may share it.

    Attributes:
        dims: name -> t; a store whose teacher has several parts has a name for each, joined by a
            dot: "clip.image", "clip.text".
        residency: "device", "host" or "stream".
        missing: examples of the split without features.
        reason: why they are where they are.
        sharding: rows of a batch over the devices.
        source: of the rows.
    """

    dims: Mapping[str, int]
    residency: str
    missing: int
    reason: str
    sharding: NamedSharding
    source: Source
    _rows: Mapping[str, np.ndarray]
    _views: int

    def load(self, rows: np.ndarray, views: np.ndarray | None) -> tuple[PyTree, np.ndarray]:
        """What the host has to tell the device of a batch.

        Args:
            rows: [b] positions in the split; under several processes, those that this one loads.
            views: [b] which stored view each example shows, None for stores without views.

        Returns:
            (host arrays with b rows for `source.gather`; [b] float32, 1 where every teacher has
            features of the example).

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
        return self.source.load(wanted), present.astype(np.float32)

    def batch(
        self, rows: np.ndarray, views: np.ndarray | None
    ) -> tuple[Mapping[str, jax.Array], np.ndarray]:
        """The features of a batch.

        Args:
            rows: as in `load`.
            views: as in `load`.

        Returns:
            (name -> global array [b, t] sharded by rows, in the stored dtype; [b] float32, 1 where
            every teacher has features of the example). Features that are not there are zero.

        Raises:
            ConfigError: as in `load`.
        """
        loaded, present = self.load(rows, views)
        place = functools.partial(jax.make_array_from_process_local_data, self.sharding)
        return self.gathered(jax.tree.map(place, loaded)), present

    def gathered(self, loaded: PyTree) -> Mapping[str, jax.Array]:
        """Name -> global [b, t], from the global arrays of what `load` returned."""
        return self._gather(self.source.tables, loaded)

    @functools.cached_property
    def _gather(self) -> Callable[[PyTree, PyTree], Mapping[str, jax.Array]]:
        return jax.jit(self.source.gather, out_shardings=self.sharding)

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
        sharding=sharding,
        source=_make_source(choice, stores, stored, columns, sharding),
        _rows=starts,
        _views=views,
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


def _make_source(
    choice: Choice,
    stores: Mapping[str, FeatureStore],
    stored: Mapping[str, ShardRows],
    columns: Mapping[str, tuple[str, int, int]],
    sharding: NamedSharding,
) -> Source:
    if choice.residency == "stream":
        return _from_host({name: rows.gather for name, rows in stored.items()}, columns)
    resident = {name: _Resident(rows.read_all()) for name, rows in stored.items()}
    for name, rows in resident.items():
        require_finite(stores[name], rows.gather)
    if choice.residency == "device":
        arrays = {name: rows.array for name, rows in resident.items()}
        return _from_device(arrays, columns, sharding)
    return _from_host({name: rows.gather for name, rows in resident.items()}, columns)


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
) -> Source:
    def load(wanted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = {}
        for name, rows in wanted.items():
            values = gathers[name](np.maximum(rows, 0))
            values[rows < 0] = 0
            found[name] = values
        return {
            label: np.ascontiguousarray(found[name][:, start:stop])
            for label, (name, start, stop) in columns.items()
        }

    return Source({}, load, lambda tables, loaded: loaded)


def _from_device(
    arrays: Mapping[str, np.ndarray],
    columns: Mapping[str, tuple[str, int, int]],
    sharding: NamedSharding,
) -> Source:
    everywhere = NamedSharding(sharding.mesh, P())
    tables = {
        name: jax.make_array_from_process_local_data(everywhere, array)
        for name, array in arrays.items()
    }

    def gather(tables: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, jax.Array]:
        found = {}
        for name, rows in wanted.items():
            there = jnp.take(tables[name], jnp.maximum(rows, 0), axis=0)
            found[name] = jnp.where((rows >= 0)[:, None], there, jnp.zeros_like(there))
        return {label: found[name][:, start:stop] for label, (name, start, stop) in columns.items()}

    def load(wanted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: rows.astype(np.int32) for name, rows in wanted.items()}

    return Source(tables, load, gather)
