"""What a feature store says about itself, and the check that it is the one a run needs.

plan.json is the first file of a store: all that is fixed before the first shard. manifest.json is
the last: the plan with the hash of every other file, and of itself.
"""

import dataclasses
import hashlib
import json
import types
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

from aft_jax.errors import StoreError
from aft_jax.features.kv import Directory

FORMAT_VERSION = 2
PLAN = "plan.json"
MANIFEST = "manifest.json"
OWN_HASH = "manifest_sha256"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The binding of a store to its teacher and its examples.

    Attributes:
        format_version: of the store's layout.
        teacher_id: model id.
        teacher_revision: of its weights at their source.
        teacher_weights_sha256: hash of its weights.
        teacher_parameters: number of its weights.
        preprocessing: what the teacher's inputs went through.
        pooling: which of the teacher's features.
        dataset_name: name of the data set.
        dataset_version: changes when its content does.
        dataset_split: which split.
        dataset_rows: n, how many examples.
        dataset_ids_sha256: digest of the ordered example ids.
        views: m, stored versions of each example; 0 for the example as it is.
        augmentation: how views are cut, as JSON; "" without views.
        dtype: of the stored features.
        shape: [n * max(1, m), t]; view v of example i is row i * m + v.
        parts: part of the teacher's output -> its [start, stop) columns.
        shard_rows: rows in every shard but the last, which may have fewer.
    """

    format_version: int
    teacher_id: str
    teacher_revision: str
    teacher_weights_sha256: str
    teacher_parameters: int
    preprocessing: str
    pooling: str
    dataset_name: str
    dataset_version: str
    dataset_split: str
    dataset_rows: int
    dataset_ids_sha256: str
    views: int
    augmentation: str
    dtype: str
    shape: tuple[int, int]
    parts: Mapping[str, tuple[int, int]]
    shard_rows: int

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.shape[0] // self.shard_rows)

    def rows_of(self, shard: int) -> tuple[int, int]:
        """The first row of a shard, and one past its last."""
        start = shard * self.shard_rows
        return start, min(start + self.shard_rows, self.shape[0])


@dataclasses.dataclass(frozen=True)
class Manifest(Plan):
    """A plan that was carried out.

    Attributes:
        files_sha256: file of the store -> hash of its content.
        extraction_seconds: what the teacher's pass over the examples took, added up over the
            processes; None where nobody measured it: imported features, stores of older versions.
    """

    files_sha256: Mapping[str, str]
    extraction_seconds: float | None = None


P = TypeVar("P", bound=Plan)


def render_plan(plan: Plan) -> bytes:
    """The content of plan.json."""
    return (json.dumps(dataclasses.asdict(plan), indent=2) + "\n").encode()


def render_manifest(manifest: Manifest) -> bytes:
    """The content of manifest.json."""
    fields = dataclasses.asdict(manifest)
    if manifest.extraction_seconds is None:
        del fields["extraction_seconds"]
    return (json.dumps(fields | {OWN_HASH: _digest(fields)}, indent=2) + "\n").encode()


def read_plan(store: Directory) -> Plan | None:
    """Reads what a store was begun as.

    Args:
        store: the store's directory.

    Returns:
        The plan, or None where no store was begun.

    Raises:
        StoreError: it cannot be read, is of another format or malformed.
    """
    content = store.read(PLAN)
    return None if content is None else _parse(f"{store.path}/{PLAN}", content, Plan)


def has_store(path: str) -> bool:
    """Whether there is a complete store at a path; a damaged one is complete too."""
    return Directory(path).read(MANIFEST) is not None


def read_manifest(path: str) -> Manifest:
    """Reads a store's manifest.

    Args:
        path: the store's directory, local or a URL.

    Returns:
        The manifest.

    Raises:
        StoreError: there is no complete store, its format is another version's, or the manifest
            is damaged.
    """
    store = Directory(str(path))
    content = store.read(MANIFEST)
    if content is None:
        raise _unfinished(store)
    return _parse(f"{store.path}/{MANIFEST}", content, Manifest)


def require(path: str, found: Plan, expected: Mapping[str, Any]) -> None:
    """Refuses a store that is not the expected one.

    Args:
        path: the store's directory, for the message.
        found: what the store says.
        expected: field of the plan -> the value that the run is about to use.

    Raises:
        StoreError: a field differs; the message names every such field with both values.
    """
    fields = dataclasses.asdict(found)
    wrong = [
        f"{field}: the store has {fields[field]!r}, the run needs {value!r}"
        for field, value in expected.items()
        if fields[field] != value
    ]
    if wrong:
        raise StoreError(
            "features are used only with the teacher, examples and views they were computed from; "
            f"{path} does not fit. {'; '.join(wrong)}. Go back to the config that the store was "
            "made with, point config.features.directory elsewhere, or delete that directory and "
            "run `aft-jax extract` again."
        )


def _unfinished(store: Directory) -> StoreError:
    plan = read_plan(store)
    if plan is None:
        return StoreError(
            f"a feature store has a {MANIFEST}, written last; {store.path} holds no store. "
            "Run `aft-jax extract` with the same --config."
        )
    done = sum(name.startswith("done/") for name in store.names())
    return StoreError(
        f"a complete feature store has a {MANIFEST}, written last; {store.path} is half-written: "
        f"{done} of {plan.shards} shards are done. The same `aft-jax extract` resumes it."
    )


def _parse(place: str, content: bytes, kind: type[P]) -> P:
    try:
        fields = json.loads(content)
        version = fields["format_version"]
        if version == FORMAT_VERSION:
            if kind is Manifest:
                _check_own_hash(fields)
            return kind(**{name: _value(kind, name, item) for name, item in fields.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{place} is damaged: {error}. Delete that file, and the same `aft-jax extract` "
            "writes it again from the shards that are done."
            if kind is Manifest
            else f"{place} is damaged: {error}. Delete the store and extract the features again."
        ) from error
    raise StoreError(
        f"format_version of {place} is {version}; this version of aft_jax reads "
        f"{FORMAT_VERSION}. "
        + (
            "Upgrade aft_jax."
            if isinstance(version, int) and version > FORMAT_VERSION
            else "Delete the store and extract the features again."
        )
    )


def _check_own_hash(fields: dict[str, Any]) -> None:
    recorded = fields.pop(OWN_HASH)
    found = _digest(fields)
    if recorded != found:
        raise ValueError(f"{OWN_HASH} is {recorded!r}, its other fields have {found!r}")


def _digest(fields: Mapping[str, Any]) -> str:
    """Of the meaning, so that it does not depend on spaces or the order of fields."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _value(kind: type[Plan], name: str, item: Any) -> Any:
    """A field of the type its record declares, with JSON's lists turned into tuples."""
    declared = {field.name: field.type for field in dataclasses.fields(kind)}
    if name not in declared:
        raise TypeError(f"{name!r} is no field of it")
    value = _typed(declared[name], item)
    if value is None:
        raise TypeError(f"{name} is of type {declared[name]}, got {item!r}")
    return value


def _typed(declared: Any, item: Any) -> Any:
    """The item as the declared type, or None."""
    if get_origin(declared) is types.UnionType:
        return _typed(get_args(declared)[0], item)
    if get_origin(declared) is tuple:
        fits = isinstance(item, list) and [type(size) for size in item] == [int, int]
        return tuple(item) if fits else None
    if get_origin(declared) is None:
        return item if type(item) is declared else None
    if not isinstance(item, dict):
        return None
    values = {name: _typed(get_args(declared)[1], value) for name, value in item.items()}
    return None if None in values.values() else values
