"""From examples to what a teacher reads, a batch at a time; an image is decoded once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from aft_jax.config import Config
from aft_jax.data import Dataset, Example
from aft_jax.data.images import View, cut, draw_view, stored_view
from aft_jax.errors import ConfigError
from aft_jax.teachers import Teacher


class Prepared(NamedTuple):
    """One batch.

    Attributes:
        inputs: what `Teacher.features` reads.
        rows: how many there are.
        views: with stored views: [rows, 5] int32, their rectangles.
    """

    inputs: Any
    rows: int
    views: np.ndarray | None


def require_images(dataset: Dataset) -> None:
    """Refuses views of anything but images.

    Args:
        dataset: the examples.

    Raises:
        ConfigError: the first example has no image.
    """
    names = sorted(dataset.examples[0])
    if "image" not in names:
        raise ConfigError(
            f"config.views cuts views of images; examples of {dataset.name} have "
            f"{', '.join(names)}. Set config.views=0."
        )


def make_prepare(
    config: Config, teacher: Teacher, dataset: Dataset, examples: np.ndarray, size: int
) -> Callable[[int], Prepared]:
    """The function that prepares batch k of some examples; threads may call it.

    Args:
        config: its `views` and `augment` say what becomes of an image.
        teacher: its `prepare` makes the inputs.
        dataset: the split.
        examples: [e] positions in it.
        size: examples of a batch; the last one may have fewer.
    """

    def prepare(number: int) -> Prepared:
        chosen = examples[number * size : (number + 1) * size]
        made: list[Example] = []
        views: list[View] = []
        for position in chosen.tolist():
            example = dataset.examples[position]
            if not config.views:
                made.append(example)
                continue
            cuts = views_of(example["image"], str(dataset.ids[position]), config)
            made += [{**example, "image": cut(example["image"], view)} for view in cuts]
            views += cuts
        parameters = np.array(views, np.int32) if views else None
        return Prepared(teacher.prepare(made), len(made), parameters)

    return prepare


def views_of(image: np.ndarray, name: str, config: Config) -> list[View]:
    """The views of one image that a store holds.

    Args:
        image: [h, w, 3].
        name: the example's id.
        config: how many views, and how they are cut.

    Returns:
        Their rectangles; the same in training, where the student sees them.
    """
    height, width = image.shape[:2]
    return [
        draw_view(stored_view(name, number), height, width, config.augment)
        for number in range(config.views)
    ]
