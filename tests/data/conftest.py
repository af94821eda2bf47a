"""Small pictures, configs and loaders that the tests of all sources share."""

import io

import numpy as np
import pytest
from PIL import Image

from aft_jax.config import DataConfig
from aft_jax.data.records import assemble


@pytest.fixture(scope="session")
def picture():
    """A number -> noise of that number's own, [h, w, 3] uint8, sizes differ."""
    return lambda i: np.random.default_rng(i).integers(0, 256, (4 + i % 3, 5, 3), np.uint8)


@pytest.fixture(scope="session")
def encode():
    """An image -> the content of a file of some format."""

    def encode(image, kind="PNG"):
        file = io.BytesIO()
        Image.fromarray(image).save(file, kind)
        return file.getvalue()

    return encode


@pytest.fixture
def make_config():
    """A path and the keys that differ from the defaults -> config."""

    def make(path, **changes):
        defaults = {
            **{"name": "set", "source": "", "task": "", "train": "train", "tune": ""},
            **{"test": "test", "tune_fraction": 0.2, "columns": {}, "template": ""},
            "on_error": "raise",
        }
        return DataConfig(path=str(path), **(defaults | changes))

    return make


@pytest.fixture
def load(make_config):
    """A source, a path and config keys -> the data set of one split."""

    def load(source, path, split="train", classes=None, **changes):
        return assemble(source(make_config(path, **changes), split), "set", split, classes)

    return load


@pytest.fixture
def rows_of():
    """A data set -> id -> (class name, content), whatever the order of the rows."""

    def rows_of(dataset):
        names = [*dataset.classes, None]
        found = {}
        for row, name in enumerate(dataset.ids.tolist()):
            example = dataset.examples[row]
            content = {
                key: value.tolist() if isinstance(value, np.ndarray) else value
                for key, value in example.items()
            }
            found[name] = (names[dataset.labels[row]], content)
        return found

    return rows_of
