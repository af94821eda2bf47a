"""What a comparison was made of, for its record: data, student, teachers, versions and devices."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable

import jax
import numpy as np

import aft_jax
from aft_jax.config import Config
from aft_jax.data import Dataset, report_overlap
from aft_jax.experiments.comparison.records import (
    DatasetFacts,
    StoreFacts,
    StudentFacts,
    TeacherFacts,
)
from aft_jax.features import has_store, read_manifest, store_path
from aft_jax.features.kv import Directory
from aft_jax.features.manifest import MANIFEST


def dataset_facts(train: Dataset, tune: Dataset, test: Dataset) -> DatasetFacts:
    """The splits, and what they share.

    Args:
        train: the examples that were trained on.
        tune: those that chose.
        test: those that were looked at once.

    Returns:
        The facts.
    """
    parts = (train, tune, test)
    return {
        "name": train.name,
        "version": train.version,
        "splits": {
            role: len(part) for role, part in zip(("train", "tune", "test"), parts, strict=True)
        },
        "num_classes": len(train.classes),
        "overlap": report_overlap((train, test)) | report_overlap((tune, test)),
        "skipped": {part.split: list(part.skipped) for part in parts if part.skipped},
    }


def student_facts(config: Config, parameters: int) -> StudentFacts:
    """The student, and where its weights came from.

    Args:
        config: names it.
        parameters: of what was trained.

    Returns:
        The facts.
    """
    return {
        "name": config.student.name,
        "parameters": parameters,
        "init_from": config.student.init_from or config.student.pretrained or None,
    }


def teacher_facts(config: Config, splits: Iterable[str]) -> dict[str, TeacherFacts]:
    """The teachers behind the stores of a run, and the fingerprints of those stores.

    Args:
        config: names the teachers and their stores.
        splits: names of splits; those without stores are left out, and so are teachers without any.

    Returns:
        Teacher name -> its facts.

    Raises:
        StoreError: a store's manifest is damaged.
    """
    facts: dict[str, TeacherFacts] = {}
    for name in config.teachers:
        places = {split: store_path(config, name, split) for split in splits}
        found = {split: path for split, path in places.items() if has_store(path)}
        if not found:
            continue
        manifest = read_manifest(next(iter(found.values())))
        facts[name] = {
            "id": manifest.teacher_id,
            "revision": manifest.teacher_revision,
            "weights_sha256": manifest.teacher_weights_sha256,
            "parameters": manifest.teacher_parameters,
            "width": manifest.shape[1],
            "stores": {split: _store_facts(path) for split, path in found.items()},
        }
    return facts


def environment() -> dict[str, str]:
    """Versions and devices, for the record."""
    devices = jax.devices()
    return {
        "aft_jax": aft_jax.__version__,
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{devices[0].device_kind} x {len(devices)}",
    }


def _store_facts(path: str) -> StoreFacts:
    manifest = read_manifest(path)
    return {
        "rows": manifest.dataset_rows,
        "ids_sha256": manifest.dataset_ids_sha256,
        "manifest_sha256": hashlib.sha256(Directory(path).read(MANIFEST) or b"").hexdigest(),
        "extraction_seconds": manifest.extraction_seconds,
    }
