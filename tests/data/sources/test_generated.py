"""Generated examples: as many as promised, never the same twice, and each class easy to tell."""

import numpy as np
import pytest

from aft_jax.config import DataConfig
from aft_jax.data.records import assemble
from aft_jax.data.sources.generated import generated
from aft_jax.data.templates import TEMPLATES
from aft_jax.errors import ConfigError

CLASSES = ("red", "green", "blue")
KINDS = {"image": {"image"}, "text": {"text"}, "image_text": {"image", "text"}}
SIZES = {"train": 96, "tune": 48, "test": 48}


def data_config(path, template=""):
    return DataConfig(
        name="generated",
        source="generated",
        path=path,
        task="",
        train="train",
        tune="tune",
        test="test",
        tune_fraction=0.0,
        columns={},
        template=template,
        on_error="raise",
    )


def dataset(path, split, template=""):
    return assemble(generated(data_config(path, template), split), "generated", split, CLASSES)


@pytest.mark.parametrize("path", KINDS)
def test_sizes_parts_and_classes(path):
    for split, size in SIZES.items():
        part = dataset(path, split)
        assert len(part) == len(part.examples) == size
        assert part.classes == CLASSES
        assert np.bincount(part.labels).tolist() == [size // 3] * 3
        for row in range(size):
            assert set(part.examples[row]) == KINDS[path]
        if "image" in path:
            image = part.examples[0]["image"]
            assert (image.shape, image.dtype) == ((36, 48, 3), np.uint8)


@pytest.mark.parametrize("path", KINDS)
def test_no_two_examples_are_equal_in_any_split(path):
    digests = np.concatenate([dataset(path, split).digests for split in SIZES])
    assert len(set(digests.tolist())) == sum(SIZES.values())


def test_the_same_row_is_the_same_every_time():
    first, again = dataset("image_text", "tune"), dataset("image_text", "tune")
    np.testing.assert_array_equal(first.ids, again.ids)
    np.testing.assert_array_equal(first.examples[7]["image"], again.examples[7]["image"])
    assert first.examples[7]["text"] == again.examples[7]["text"]


def test_the_class_is_the_brightest_channel():
    part = dataset("image", "test")
    for row, label in enumerate(part.labels):
        assert part.examples[row]["image"].mean((0, 1)).argmax() == label


@pytest.mark.parametrize("template", ["", "sst2", "mnli"])
def test_the_class_shows_in_words_that_no_other_class_has(template):
    part = dataset("text", "train", template)
    words = [
        set.union(
            *(
                set(part.examples[row]["text"].split())
                for row in np.flatnonzero(part.labels == k).tolist()
            )
        )
        for k in range(3)
    ]
    own = [words[k] - words[(k + 1) % 3] - words[(k + 2) % 3] for k in range(3)]
    plain = {word for word in words[0] | words[1] | words[2] if not word.startswith("train")}
    for row, label in enumerate(part.labels):
        seen = set(part.examples[row]["text"].split()) & plain
        assert seen & own[label]
        assert not seen & (own[(label + 1) % 3] | own[(label + 2) % 3])


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_is_filled_in(template):
    part = dataset("text", "tune", template)
    texts = {part.examples[row]["text"] for row in range(len(part))}
    assert len(texts) == 48
    assert not any("{" in text for text in texts)
    beginning = TEMPLATES[template].split("{")[0]
    assert all(text.startswith(beginning) for text in texts)


@pytest.mark.parametrize(
    ("path", "split", "template", "message"),
    [
        (
            "video",
            "train",
            "",
            r"config\.data\.path .* one of image, text, image_text; got 'video'",
        ),
        ("text", "dev", "", r"split of the generated source .* train, tune, test; got 'dev'"),
        ("text", "train", "mnil", r"config\.data\.template is one of .*; got 'mnil'"),
    ],
)
def test_unknown_names(path, split, template, message):
    with pytest.raises(ConfigError, match=message):
        generated(data_config(path, template), split)
