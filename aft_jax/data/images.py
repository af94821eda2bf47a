"""Images: decoding, augmented views, and the square that a student reads. All of it is uint8.

A view is a crop and maybe a mirror image, cut before anyone resizes: teacher and student see the
same pixels, each at its own size. It is a pure function of its key, so it needs no storage to be
shown again.
"""

import hashlib
import io
import math
import re
from typing import NamedTuple

import numpy as np

from aft_jax.config import AugmentConfig
from aft_jax.errors import DataError

ASPECT = 4 / 3
"""A view is at most this much wider than high, or higher than wide, relative to its image."""


class View(NamedTuple):
    """A rectangle of an image, in pixels.

    Attributes:
        top: first row.
        left: first column.
        height: rows.
        width: columns.
        flip: 1 if it is mirrored left to right, else 0.
    """

    top: int
    left: int
    height: int
    width: int
    flip: int


def decode(data: bytes, name: str) -> np.ndarray:
    """Decodes an image file of any format Pillow reads.

    Args:
        data: content of the file.
        name: of the file or row, for messages.

    Returns:
        [h, w, 3] uint8; grey and palette images become RGB, and transparency is laid on white.

    Raises:
        DataError: the content is no image, or it is cut short.
    """
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        if "A" in image.getbands() or "transparency" in image.info:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        return np.asarray(image.convert("RGB"))
    # Pillow's decoders raise all of these for a damaged file.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(
            f"an image is a file that Pillow reads; {name} is none: {_reason(error)}. "
            'Repair or remove it, or set config.data.on_error="skip".'
        ) from error


def _reason(error: Exception) -> str:
    """Pillow names the object in memory that it read from."""
    return re.sub(r"<_io\.BytesIO object at \w+>", "its content", str(error))


def stored_view(name: str, number: int) -> str:
    """The key of one of an example's stored views.

    Args:
        name: the example's id.
        number: which, from 0.

    Returns:
        The key for `draw_view`; extraction and training agree by it.
    """
    return f"{name}/{number}"


def draw_view(key: str, height: int, width: int, augment: AugmentConfig) -> View:
    """The view that a key stands for.

    Args:
        key: decides the view; see `stored_view`.
        height: of the image, in pixels.
        width: of the image, in pixels.
        augment: how views are cut.

    Returns:
        A rectangle of a random area between `min_area` and all of the image, of nearly the image's
        own proportions, somewhere inside it.
    """
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little")
    area, shape, down, right, mirror = np.random.default_rng(seed).random(5)
    scale = math.sqrt(augment.min_area + (1 - augment.min_area) * area)
    stretch = ASPECT ** (shape - 0.5)
    tall = min(height, max(1, round(height * scale * stretch)))
    wide = min(width, max(1, round(width * scale / stretch)))
    return View(
        top=int(down * (height - tall + 1)),
        left=int(right * (width - wide + 1)),
        height=tall,
        width=wide,
        flip=int(augment.flip and mirror < 0.5),
    )


def cut(image: np.ndarray, view: View) -> np.ndarray:
    """The pixels of a view.

    Args:
        image: [h, w, c].
        view: a rectangle inside it.

    Returns:
        [view.height, view.width, c], contiguous.
    """
    part = image[view.top : view.top + view.height, view.left : view.left + view.width]
    return np.ascontiguousarray(part[:, ::-1] if view.flip else part)


def fit(image: np.ndarray, size: int, how: str) -> np.ndarray:
    """The square image that a student reads.

    Args:
        image: [h, w, 3] uint8.
        size: side of the square, in pixels.
        how: "stretch" the whole image to the square, or scale it until it covers the square and
            "crop" the centre.

    Returns:
        [size, size, 3] uint8, resampled bilinearly over all pixels (antialiased).
    """
    from PIL import Image

    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    box = (0.0, 0.0, float(width), float(height))
    if how == "crop":
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    picture = Image.fromarray(image)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box))
