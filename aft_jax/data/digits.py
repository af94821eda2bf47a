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

import dataclasses
import hashlib
import itertools
from typing import Any

import numpy as np
from sklearn.datasets import load_digits as load_sklearn_digits

from aft_jax.data.dataset import Dataset, take
from aft_jax.data.splits import stratified_splits
from aft_jax.errors import ConfigError

FRACTIONS = {"upstream": 1 / 2, "train": 1 / 18, "tune": 1 / 9, "test": 1 / 3}
SALT = "aft-digits"
TASKS = ("digit", "instance")


def load_digits(split: str, task: str) -> Dataset:
    """One split of the digits.

    Args:
        split: "upstream", "train", "tune" or "test".
        task: "digit" or "instance".

    Returns:
        The examples; inputs are [n, 8, 8, 1] float32 in [-1, 1].

    Raises:
        ConfigError: the split or the task is unknown.
    """
    if split not in FRACTIONS:
        raise ConfigError(f"a split of digits is one of {', '.join(FRACTIONS)}; got {split!r}.")
    if task not in TASKS:
        raise ConfigError(f"config.data.task of digits is one of {', '.join(TASKS)}; got {task!r}.")
    raw: Any = load_sklearn_digits()
    pixels = raw.images.astype(np.uint8)  # 0 .. 16
    ids = np.array([hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in pixels])
    whole = Dataset(
        name=f"digits/{task}",
        version=hashlib.sha256(pixels.tobytes()).hexdigest()[:16],
        split=split,
        ids=ids,
        inputs=(pixels[..., None] / np.float32(8) - 1).astype(np.float32),
        labels=raw.target.astype(np.int32),
        classes=tuple(map(str, range(10))),
    )
    rows = stratified_splits(ids, whole.labels, FRACTIONS, SALT)[split]
    part = take(whole, rows)
    return part if task == "digit" else _shifted_instances(part)


def _shifted_instances(dataset: Dataset) -> Dataset:
    """Every image shifted by -1, 0 and 1 pixels each way; the label says which image it is.

    What moves in from beyond the border is background.
    """
    padded = np.pad(dataset.inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1)
    shifts = list(itertools.product(range(3), range(3)))
    images = [padded[:, down : down + 8, right : right + 8] for down, right in shifts]
    ids = [np.char.add(dataset.ids, f"-shift{down}{right}") for down, right in shifts]
    return dataclasses.replace(
        dataset,
        ids=np.concatenate(ids),
        inputs=np.concatenate(images),
        labels=np.tile(np.arange(len(dataset), dtype=np.int32), len(shifts)),
        classes=tuple(dataset.ids.tolist()),
    )
