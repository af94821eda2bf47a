"""What a run says about the store it needs, in the fields of a plan."""

import dataclasses
import json
from typing import Any

from aft_jax.config import AugmentConfig, Config, TeacherConfig
from aft_jax.data import Dataset, ids_digest
from aft_jax.teachers import TeacherIdentity


def store_path(config: Config, teacher: str, split: str) -> str:
    """Where one teacher's features of one split are.

    Args:
        config: the run's config.
        teacher: name in `config.teachers`.
        split: `Dataset.split`.

    Returns:
        features.directory/teacher/data.name-split, with "-viewsM" where there are M stored views.
    """
    views = f"-views{config.views}" if config.views > 0 else ""
    directory = config.features.directory.rstrip("/")
    return f"{directory}/{teacher}/{config.data.name}-{split}{views}"


def describe(dataset: Dataset) -> dict[str, Any]:
    """The fields that a data set decides."""
    return {
        "dataset_name": dataset.name,
        "dataset_version": dataset.version,
        "dataset_split": dataset.split,
        "dataset_rows": len(dataset),
        "dataset_ids_sha256": ids_digest(dataset.ids),
    }


def describe_teacher(identity: TeacherIdentity) -> dict[str, Any]:
    """The fields that a teacher decides."""
    return {
        "teacher_id": identity.id,
        "teacher_revision": identity.revision,
        "teacher_weights_sha256": identity.weights_sha256,
        "preprocessing": identity.preprocessing,
        "pooling": identity.pooling,
    }


def describe_views(views: int, augment: AugmentConfig) -> dict[str, Any]:
    """The fields that the augmentation decides; `views` as in the config."""
    if views <= 0:
        return {"views": 0, "augmentation": ""}
    return {
        "views": views,
        "augmentation": json.dumps(dataclasses.asdict(augment), sort_keys=True),
    }


def expected_fields(
    config: Config,
    dataset: Dataset,
    teacher: TeacherConfig,
    identity: TeacherIdentity | None,
) -> dict[str, Any]:
    """All that a run asks of a store.

    Args:
        config: the run's config.
        dataset: the split it is for.
            With config.features.missing="skip" its rows may have changed since: only ids bind.
        teacher: the teacher's entry in the config.
        identity: of the teacher; None where its source is not on this machine, and then only the
            pooling that the config asks for by name is compared.

    Returns:
        Field of the plan -> value.
    """
    fields = describe(dataset) | describe_views(config.views, config.augment)
    if config.features.missing == "skip":  # a store of other rows of the same split will do
        for field in ("dataset_version", "dataset_rows", "dataset_ids_sha256"):
            del fields[field]
    fields["dtype"] = config.features.dtype
    if identity is not None:
        return fields | describe_teacher(identity)
    return fields | ({"pooling": teacher.pooling} if teacher.pooling else {})


def whole_fields(
    config: Config,
    dataset: Dataset,
    teacher: TeacherConfig,
    identity: TeacherIdentity | None,
) -> dict[str, Any]:
    """All that a store is written with: `expected_fields`, its rows included in any case.

    Args:
        config: the config of the extraction.
        dataset: the split it is for.
        teacher: the teacher's entry in the config.
        identity: of the teacher.

    Returns:
        Field of the plan -> value.
    """
    return expected_fields(config, dataset, teacher, identity) | describe(dataset)
