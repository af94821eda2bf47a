"""Images on Pillow and NumPy: the same as from the published processors on torchvision."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import transformers
from transformers.utils import import_utils

from aft_jax.hub import Checkpoint
from aft_jax.teachers.huggingface_inputs import hide_broken_torchvision, image_reader
from tests.teachers.checkpoints import processor

REPOSITORY = pathlib.Path(__file__).parents[2]
# Height and width: smaller and larger than the 16 pixels of the processors, odd, long and flat.
SIZES = [(16, 16), (7, 11), (15, 33), (64, 64), (131, 57), (40, 41), (200, 23)]
PROCESSORS = {name: processor(name) for name in ("ViT", "CLIP", "Bit", "Siglip", "ConvNext")} | {
    "ViTStretched": transformers.ViTImageProcessorPil(
        size={"height": 21, "width": 13}, do_normalize=False
    ),
}
# At the sizes of public models. ConvNext crops below 384 pixels and warps from there on.
LARGE = {
    "CLIPLarge": transformers.CLIPImageProcessorPil(),
    "ConvNextWarp": transformers.ConvNextImageProcessorPil(size={"shortest_edge": 384}),
}


def images():
    """Smooth, as photographs are, with noise and hard edges, as photographs have."""
    rng = np.random.default_rng(0)
    made = {}
    for height, width in SIZES:
        rows, columns = np.mgrid[:height, :width]
        waves = [np.sin(rows / 5 + c) * np.cos(columns / 7 - c) for c in range(3)]
        image = 127 + 90 * np.stack(waves, 2) + rng.normal(0, 20, (height, width, 3))
        image[height // 3 : height // 2] = 255
        made[f"{height}x{width}"] = image.clip(0, 255).astype(np.uint8)
    return made


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    processors = PROCESSORS | LARGE
    made = {name: tmp_path_factory.mktemp("processors") / name for name in processors}
    for name, directory in made.items():
        processors[name].save_pretrained(directory)
    return made


@pytest.fixture(scope="module")
def torchvision_pixels(directories, tmp_path_factory):
    """What a process with torchvision makes of the images; here it would change transformers."""
    given = tmp_path_factory.mktemp("pixels") / "images.npz"
    made = given.with_name("pixels.npz")
    np.savez(given, **images())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.teachers.torchvision_pixels",
            given,
            made,
            *directories.values(),
        ],
        cwd=REPOSITORY,
        check=True,
    )
    return dict(np.load(made))


def differences(processor, name, directories, torchvision_pixels):
    """Image by image, in levels of 255 before the division by the standard deviation."""
    read = image_reader(Checkpoint(directories[name], name, ""), trust_remote_code=False)
    std = np.array(processor.image_std if processor.do_normalize else (1, 1, 1))
    for size, image in images().items():
        found = read([image])["pixel_values"]
        wanted = torchvision_pixels[f"{name}/{size}"]
        assert found.dtype == np.float32
        assert found.shape == wanted.shape
        yield np.abs(found - wanted) * std[:, None, None] * 255


@pytest.mark.parametrize("name", list(PROCESSORS))
def test_pixels_are_those_of_the_published_processor(name, directories, torchvision_pixels):
    for levels in differences(PROCESSORS[name], name, directories, torchvision_pixels):
        assert levels.max() <= 1 + 1e-3


@pytest.mark.parametrize("name", list(LARGE))
def test_large_pixels_are_those_of_the_published_processor(name, directories, torchvision_pixels):
    """torchvision weighs pixels in 16 bits, Pillow in 22: of 100,000, some differ by two levels."""
    for levels in differences(LARGE[name], name, directories, torchvision_pixels):
        assert levels.max() <= 2 + 1e-3
        assert (levels > 1 + 1e-3).mean() < 1e-4


def test_mean_and_std_are_taken_from_the_checkpoint(tmp_path):
    """An image of one colour has the same pixels at every size, known by arithmetic."""
    transformers.ViTImageProcessorPil(size={"height": 4, "width": 4}).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    settings |= {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 0.2]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    read = image_reader(Checkpoint(tmp_path, "", ""), trust_remote_code=False)
    image = np.full((9, 5, 3), (51, 102, 153), np.uint8)  # 0.2, 0.4, 0.6
    pixels = read([image, image[:3]])["pixel_values"]
    wanted = np.array([0.2, 0.8, 1.5])[None, :, None, None]
    np.testing.assert_allclose(pixels, np.broadcast_to(wanted, (2, 3, 4, 4)), atol=1e-6)


def test_a_torchvision_that_cannot_be_imported_is_as_good_as_none(monkeypatch, tmp_path):
    (tmp_path / "torchvision").mkdir()
    broken = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision" / "__init__.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    hide_broken_torchvision()
    assert sys.modules["torchvision"] is None
    hide_broken_torchvision()  # twice is once
    assert not import_utils.is_torchvision_available()
