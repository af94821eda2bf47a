"""What a feature store says about itself, and the check that it is the one a run needs."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from aft_jax.data import Dataset, ids_digest
from aft_jax.errors import StoreError
from aft_jax.teachers import TeacherIdentity

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Manifest:
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
        dataset_rows: how many examples.
        dataset_ids_sha256: digest of the ordered example ids.
        dtype: of the stored features.
        shape: [n, t].
        files_sha256: file of the store -> hash of its content.
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
    dtype: str
    shape: tuple[int, int]
    files_sha256: Mapping[str, str]


def describe(dataset: Dataset) -> dict[str, Any]:
    """The manifest fields that a data set decides."""
    return {
        "dataset_name": dataset.name,
        "dataset_version": dataset.version,
        "dataset_split": dataset.split,
        "dataset_rows": len(dataset),
        "dataset_ids_sha256": ids_digest(dataset.ids),
    }


def describe_teacher(identity: TeacherIdentity) -> dict[str, Any]:
    """The manifest fields that a teacher decides."""
    return {
        "teacher_id": identity.id,
        "teacher_revision": identity.revision,
        "teacher_weights_sha256": identity.weights_sha256,
        "preprocessing": identity.preprocessing,
        "pooling": identity.pooling,
    }


def read_manifest(store: pathlib.Path) -> Manifest:
    """Reads a store's manifest.

    Args:
        store: the store's directory.

    Returns:
        The manifest.

    Raises:
        StoreError: there is no complete store, its format is another version's, or it is
            malformed.
    """
    path = store / MANIFEST
    if not path.is_file():
        raise StoreError(
            f"a complete feature store has a {MANIFEST}, written last; {store} has none. "
            "Run `aft-jax extract` with the same --config."
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields["format_version"]
        if version == FORMAT_VERSION:
            _check_types(fields)
            return Manifest(**fields | {"shape": tuple(fields["shape"])})
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is not a manifest: {error}. Delete {store} and extract the features again."
        ) from error
    raise StoreError(
        f"format_version of {store} is {version}; this version of aft_jax reads "
        f"{FORMAT_VERSION}. Upgrade aft_jax, or extract the features again."
    )


def _check_types(fields: Mapping[str, Any]) -> None:
    for field in dataclasses.fields(Manifest):
        value = fields[field.name]
        if field.name == "shape":
            fits = type(value) is list and [type(size) for size in value] == [int, int]
        elif field.name == "files_sha256":
            fits = type(value) is dict and all(type(digest) is str for digest in value.values())
        else:
            fits = type(value) is field.type
        if not fits:
            kind = field.type.__name__ if isinstance(field.type, type) else field.type
            raise TypeError(f"{field.name} is of type {kind}, got {value!r}")


def require(store: pathlib.Path, manifest: Manifest, expected: Mapping[str, Any]) -> None:
    """Refuses a store that is not the expected one.

    Args:
        store: the store's directory, for the message.
        manifest: what the store says.
        expected: manifest field -> the value that the run is about to use.

    Raises:
        StoreError: a field differs; the message names every such field with both values.
    """
    found = dataclasses.asdict(manifest)
    wrong = [
        f"{field}: the store has {found[field]!r}, the run needs {value!r}"
        for field, value in expected.items()
        if found[field] != value
    ]
    if wrong:
        raise StoreError(
            "features are used only with the teacher and examples they were computed from; "
            f"{store} does not fit. {'; '.join(wrong)}. Delete that directory and run "
            "`aft-jax extract` again, or point config.features_dir at the right stores."
        )
