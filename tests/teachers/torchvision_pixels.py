"""A program: runs torchvision-backed image processors over images, for comparison with Pillow's.

Usage: torchvision_pixels.py IMAGES.npz OUTPUT.npz DIRECTORY...
"""

import pathlib
import sys
import warnings

import numpy as np

from tests.teachers.torchvision_ops import import_torchvision


def main(images: str, output: str, *directories: str) -> None:
    """Writes "<directory name>/<image name>" -> pixels."""
    warnings.simplefilter("ignore")
    import_torchvision()
    from transformers import AutoImageProcessor

    pixels = {}
    for directory in directories:
        processor = AutoImageProcessor.from_pretrained(directory, backend="torchvision")
        if processor.backend != "torchvision":
            raise RuntimeError(f"{type(processor).__name__} does not run on torchvision")
        for name, image in np.load(images).items():
            values = processor(image, return_tensors="np", input_data_format="channels_last")
            pixels[f"{pathlib.Path(directory).name}/{name}"] = values["pixel_values"]
    np.savez(output, **pixels)


if __name__ == "__main__":
    main(*sys.argv[1:])
