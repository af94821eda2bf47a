"""Decoding, views and squares: pixels that can be worked out by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from aft_jax.config import AugmentConfig
from aft_jax.data.images import View, cut, decode, draw_view, fit
from aft_jax.errors import DataError

AUGMENT = AugmentConfig(min_area=0.5, flip=True)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_decode_gives_the_pixels():
    image = picture(5, 7)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(image)), "x.png"), image)


def test_grey_becomes_three_equal_channels():
    grey = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    decoded = decode(encoded(grey), "x.png")
    assert decoded.shape == (3, 4, 3)
    np.testing.assert_array_equal(decoded, np.arange(12).reshape(3, 4, 1).repeat(3, axis=2))


def test_transparency_is_laid_on_white():
    see_through = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    see_through.putpixel((1, 0), (10, 20, 30, 255))
    decoded = decode(encoded(see_through), "x.png")
    assert decoded.tolist() == [[[255, 255, 255], [10, 20, 30]]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_cut_short_is_named(kind):
    whole = encoded(Image.fromarray(picture(64, 64)), kind)
    with pytest.raises(DataError, match=r"broken\.img is none.*on_error=\"skip\""):
        decode(whole[: len(whole) // 2], "broken.img")


def test_no_image_at_all_is_named():
    with pytest.raises(DataError, match=r"notes\.txt is none"):
        decode(b"not an image", "notes.txt")


def test_a_view_is_a_function_of_its_key():
    assert draw_view("a/0", 32, 48, AUGMENT) == draw_view("a/0", 32, 48, AUGMENT)
    assert len({draw_view(f"a/{v}", 32, 48, AUGMENT) for v in range(20)}) == 20


@pytest.mark.parametrize(("height", "width"), [(32, 48), (500, 20), (1, 1), (3, 2)])
def test_views_lie_inside_and_keep_their_share(height, width):
    views = [draw_view(f"{i}", height, width, AUGMENT) for i in range(300)]
    for view in views:
        assert 0 <= view.top <= height - view.height
        assert 0 <= view.left <= width - view.width
        assert view.height >= 1
        assert view.width >= 1
    if height * width > 1000:
        shares = [view.height * view.width / (height * width) for view in views]
        assert min(shares) > 0.5 * 0.9  # rounding, and sides cut to the image
        assert min(shares) < 0.6
        assert max(shares) > 0.9
        assert {view.top for view in views} != {0}
    assert 0.4 < np.mean([view.flip for view in views]) < 0.6


def test_without_flip_no_view_is_mirrored():
    plain = AugmentConfig(min_area=0.5, flip=False)
    assert not any(draw_view(f"{i}", 9, 9, plain).flip for i in range(50))


def test_cut_crops_then_mirrors():
    image = np.arange(4 * 5).reshape(4, 5, 1).astype(np.uint8)
    part = cut(image, View(top=1, left=2, height=2, width=3, flip=0))
    assert part[..., 0].tolist() == [[7, 8, 9], [12, 13, 14]]
    mirrored = cut(image, View(top=1, left=2, height=2, width=3, flip=1))
    assert mirrored[..., 0].tolist() == [[9, 8, 7], [14, 13, 12]]


def test_fit_leaves_the_right_size_alone():
    image = picture(8, 8)
    np.testing.assert_array_equal(fit(image, 8, "stretch"), image)


def test_stretch_shows_all_and_crop_the_middle():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, :2], image[:, 6:] = 100, 200  # what the middle square does not have
    assert fit(image, 4, "crop").max() == 0
    stretched = fit(image, 4, "stretch")
    assert stretched[0, 0, 0] > 50
    assert stretched[0, -1, 0] > 100


def test_shrinking_averages_over_all_pixels():
    """A checkerboard of 0 and 200 shrunk by four is grey, not a pick of single pixels."""
    board = (np.indices((32, 32)).sum(axis=0) % 2 * 200).astype(np.uint8)
    small = fit(board[..., None].repeat(3, axis=2), 8, "stretch")
    assert np.abs(small[1:-1, 1:-1].astype(int) - 100).max() <= 3
