"""Hand-written digits: 1,797 real 8x8 images that scikit-learn ships; nothing is downloaded.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998
(its test part). Cut once and for all into four splits by a hash of the pixels:

    upstream   what teacher and student are pre-trained on
    train      the small labelled part of the downstream task
    tune       chooses beta
    test       is looked at once

and labelled for one of two tasks: "digit" (ten classes) or "instance" (each image in nine
positions, shifted by up to one pixel; the class says which image it is: a pretext that needs no
digit labels).
"""

import hashlib
import itertools
from typing import Any

import numpy as np

from aft_jax.config import DataConfig
from aft_jax.data.dataset import ArrayExamples
from aft_jax.data.records import Records
from aft_jax.data.splits import stratified_splits
from aft_jax.errors import ConfigError

FRACTIONS = {"upstream": 1 / 2, "train": 1 / 18, "tune": 1 / 9, "test": 1 / 3}
SALT = "aft-digits"
TASKS = ("digit", "instance")


def digits(config: DataConfig, split: str) -> Records:
    """One split of the digits.

    Args:
        config: its task is "digit" or "instance".
        split: "upstream", "train", "tune" or "test".

    Returns:
        The examples; each is an "array", [8, 8, 1] float32 in [-1, 1].

    Raises:
        ConfigError: the split or the task is unknown.
    """
    if split not in FRACTIONS:
        raise ConfigError(f"a split of digits is one of {', '.join(FRACTIONS)}; got {split!r}.")
    if config.task not in TASKS:
        raise ConfigError(
            f"config.data.task of digits is one of {', '.join(TASKS)}; got {config.task!r}."
        )
    from sklearn.datasets import load_digits

    raw: Any = load_digits()
    ids = np.array([_digest(image.astype(np.uint8)) for image in raw.images])  # 0 .. 16
    rows = stratified_splits(ids, raw.target, FRACTIONS, SALT)[split]
    images = (raw.images[rows, :, :, None] / 8 - 1).astype(np.float32)
    if config.task == "instance":
        return _shifted_instances(ids[rows], images)
    return Records(
        examples=ArrayExamples(images),
        labels=raw.target[rows],
        digests=ids[rows],
        ids=ids[rows],
        classes=tuple(map(str, range(10))),
    )


def _shifted_instances(ids: np.ndarray, images: np.ndarray) -> Records:
    """Every image shifted by -1, 0 and 1 pixels each way; the label says which image it is.

    What moves in from beyond the border is background.
    """
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1)
    shifts = list(itertools.product(range(3), range(3)))
    moved = [padded[:, down : down + 8, right : right + 8] for down, right in shifts]
    names = [np.char.add(ids, f"-shift{down}{right}") for down, right in shifts]
    whole = np.concatenate(moved)
    return Records(
        examples=ArrayExamples(whole),
        labels=np.tile(np.arange(len(ids)), len(shifts)),
        digests=np.array([_digest(image) for image in whole]),
        ids=np.concatenate(names),
        classes=tuple(ids.tolist()),
    )


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]
