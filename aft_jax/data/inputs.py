"""What the student reads of an example: an array, a square image, tokens, or image and tokens.

Images stay uint8 on the way to the device and are normalised there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aft_jax.config import AugmentConfig, InputsConfig
from aft_jax.data.dataset import ArrayExamples, Dataset, Example, Examples
from aft_jax.data.images import cut, draw_view, fit
from aft_jax.data.tokens import Tokens, bucket, tokenize
from aft_jax.errors import ConfigError
from aft_jax.types import PyTree

Inputs = Callable[..., PyTree]
"""(rows [b], *, views=None, among=None) -> host arrays [b, ...]; safe to call in several threads.

`views` [b] are the keys of the views to cut of the images, `among` the rows that batches of other
processes have at the same step, which decide together how far texts are padded.
"""

CACHE_BYTES = 2 * 2**30
"""Resized images are kept in host memory up to this size."""


def make_inputs(config: InputsConfig, augment: AugmentConfig, dataset: Dataset) -> Inputs:
    """What the student reads of a data set's examples.

    Args:
        config: the kind of inputs and their sizes.
        augment: how views are cut.
        dataset: the examples. Texts are tokenised here; images are decoded when asked for.

    Returns:
        The inputs, by row.

    Raises:
        ConfigError: the examples have no such inputs, or the tokenizer cannot be loaded.
    """
    if len(dataset):
        _require_parts(config, dataset.examples[0], dataset.name)
    if config.kind == "array":
        return _array_inputs(dataset.examples)
    parts: dict[str, Inputs] = {}
    if "image" in config.kind:
        parts["image"] = _image_inputs(config, augment, dataset)
    if "text" in config.kind:
        examples = dataset.examples
        texts = (examples[row]["text"] for row in range(len(examples)))
        parts["text"] = _token_inputs(config, tokenize(texts, config, len(examples)))
    if config.kind == "image_text":
        return _both(parts["image"], parts["text"])
    return parts[config.kind]


def prepare_examples(config: InputsConfig, examples: Sequence[Example]) -> PyTree:
    """The same for a few examples at once, without views; what a student as teacher reads.

    Args:
        config: the kind of inputs and their sizes.
        examples: b examples.

    Returns:
        Host arrays [b, ...].

    Raises:
        ConfigError: the examples have no such inputs, or the tokenizer cannot be loaded.
    """
    _require_parts(config, examples[0], "the teacher's data")
    if config.kind == "array":
        return np.stack([example["array"] for example in examples])
    parts: dict[str, PyTree] = {}
    if "image" in config.kind:
        parts["image"] = np.stack([_square(config, example["image"]) for example in examples])
    if "text" in config.kind:
        tokens = tokenize((example["text"] for example in examples), config)
        parts["text"] = _token_inputs(config, tokens)(np.arange(len(examples)))
    return _merged(**parts) if config.kind == "image_text" else parts[config.kind]


def _require_parts(config: InputsConfig, example: Example, name: str) -> None:
    missing = [part for part in config.kind.split("_") if part not in example]
    if missing:
        raise ConfigError(
            f"config.inputs.kind says what the student reads of an example; {config.kind!r} needs "
            f"{' and '.join(missing)}, the examples of {name} have {', '.join(example)}. "
            "Set config.inputs.kind, or config.data.columns."
        )


def _array_inputs(examples: Examples) -> Inputs:
    def batch(rows: np.ndarray, *, views: Any = None, among: Any = None) -> np.ndarray:
        if isinstance(examples, ArrayExamples):
            return examples.array[rows]
        return np.stack([examples[int(row)]["array"] for row in rows])

    return batch


def _image_inputs(config: InputsConfig, augment: AugmentConfig, dataset: Dataset) -> Inputs:
    shape = (len(dataset), config.image_size, config.image_size, 3)
    # Untouched pages of an empty array take no memory: it grows as images are asked for.
    kept = np.empty(shape, np.uint8) if np.prod(shape) <= CACHE_BYTES else None
    is_kept = np.zeros(len(dataset), bool)

    def whole(row: int) -> np.ndarray:
        if kept is not None and is_kept[row]:
            return kept[row]
        square = _square(config, dataset.examples[row]["image"])
        if kept is not None:
            kept[row] = square
            is_kept[row] = True  # last: another thread may be reading
        return square

    def view(row: int, key: str) -> np.ndarray:
        image = dataset.examples[row]["image"]
        height, width = image.shape[:2]
        part = cut(image, draw_view(key, height, width, augment))
        return fit(part, config.image_size, "stretch")

    def batch(rows: np.ndarray, *, views: Any = None, among: Any = None) -> np.ndarray:
        if views is None:
            return np.stack([whole(int(row)) for row in rows])
        return np.stack([view(int(row), key) for row, key in zip(rows, views, strict=True)])

    return batch


def _square(config: InputsConfig, image: np.ndarray) -> np.ndarray:
    return fit(image, config.image_size, config.image_fit)


def _token_inputs(config: InputsConfig, tokens: Tokens) -> Inputs:
    def batch(rows: np.ndarray, *, views: Any = None, among: Any = None) -> PyTree:
        longest = tokens.lengths[rows if among is None else among]
        return tokens.batch(rows, bucket(longest, config.buckets))

    return batch


def _both(images: Inputs, tokens: Inputs) -> Inputs:
    def batch(rows: np.ndarray, *, views: Any = None, among: Any = None) -> PyTree:
        return _merged(images(rows, views=views), tokens(rows, among=among))

    return batch


def _merged(image: np.ndarray, text: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"image": image, **text}
