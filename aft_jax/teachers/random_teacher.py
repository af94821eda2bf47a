"""A fixed random projection of the example: what a teacher that has learned nothing gives.

It is the negative control when teachers are ranked, and the teacher of quick trial runs.
"""

import functools
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from aft_jax.config import TeacherConfig
from aft_jax.data import Example
from aft_jax.data.images import fit
from aft_jax.errors import ConfigError, DataError
from aft_jax.teachers.teacher import Teacher, TeacherIdentity
from aft_jax.teachers.unused import refuse_unused

_DEFAULTS = {"width": 64, "seed": 0}
_SIDE = 32  # pixels of an image
_BUCKETS = 4096  # that the pieces of a text are counted in
_PIECE = 3  # characters
_PARTS = ("image", "text", "array")


def random_teacher(config: TeacherConfig) -> Teacher:
    """A random projection of pixels, of counted pieces of a text, or of an array.

    Args:
        config: `source` is ""; `options` has width (of the features, 64) and seed (0).

    Returns:
        The teacher; features are float32, for each part of the examples.

    Raises:
        ConfigError: a key is set that this family does not read, or an option is no number.
    """
    identity = random_identity(config)
    width, seed = _options(config)

    @functools.cache
    def signs(size: int) -> np.ndarray:
        # Only the raw bits of a generator are the same in every version of NumPy.
        bits = np.random.PCG64([seed, size]).random_raw(-(-size * width // 64))
        unpacked = np.unpackbits(bits.astype("<u8").view(np.uint8))[: size * width]
        return unpacked.reshape(size, width).astype(np.float32) * 2 - 1

    def features(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            part: flat @ signs(flat.shape[1]) / np.float32(np.sqrt(flat.shape[1]))
            for part, flat in inputs.items()
        }

    return Teacher(identity, _prepare, features, parameters=0)


def random_identity(config: TeacherConfig) -> TeacherIdentity:
    """What that teacher's features depend on: its options.

    Args:
        config: as for `random_teacher`.

    Returns:
        The identity.

    Raises:
        ConfigError: a key is set that this family does not read, or an option is no number.
    """
    refuse_unused(config, ("options",))
    width, seed = _options(config)
    options = json.dumps({"width": width, "seed": seed}, sort_keys=True)
    return TeacherIdentity(
        id=f"random/{options}",
        revision="",
        weights_sha256=hashlib.sha256(options.encode()).hexdigest(),
        preprocessing=f"pixels at {_SIDE}x{_SIDE}, {_BUCKETS} buckets of {_PIECE} characters, "
        "arrays as they are",
        pooling="a random projection",
    )


def _options(config: TeacherConfig) -> tuple[int, int]:
    options = _DEFAULTS | config.options
    numbers = all(type(value) is int for value in options.values())
    if options.keys() != _DEFAULTS.keys() or not numbers or options["width"] < 1:
        raise ConfigError(
            "config.teachers.*.options of a random teacher has width, at least 1, and seed, both "
            f"whole numbers; got {config.options!r}."
        )
    return options["width"], options["seed"]


def _prepare(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    parts = [part for part in _PARTS if part in examples[0]]
    if not parts:
        raise DataError(
            f"an example has one of {', '.join(_PARTS)}; this one has "
            f"{', '.join(examples[0]) or 'nothing'}. See config.data.columns."
        )
    flat = {part: np.stack([_flat(example, part) for example in examples]) for part in parts}
    return flat if len(parts) > 1 else {"pooled": flat[parts[0]]}


def _flat(example: Example, part: str) -> np.ndarray:
    if part == "text":
        return _counts(example["text"])
    if part == "image":
        pixels = fit(example["image"], _SIDE, "stretch")
        return pixels.reshape(-1).astype(np.float32) / 255
    return np.asarray(example["array"], np.float32).reshape(-1)


def _counts(text: str) -> np.ndarray:
    """How often each piece of a text occurs, in buckets chosen by a hash."""
    pieces = [text[start : start + _PIECE] for start in range(max(1, len(text) - _PIECE + 1))]
    buckets = [zlib.crc32(piece.encode()) % _BUCKETS for piece in pieces]
    return np.bincount(buckets, minlength=_BUCKETS).astype(np.float32)
