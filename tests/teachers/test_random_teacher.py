"""The random projection: fixed by its options, linear in what it reads, blind to the batch."""

import dataclasses

import numpy as np
import pytest

from aft_jax.errors import ConfigError, DataError
from aft_jax.teachers import identify_teacher, make_teacher


@pytest.fixture
def config(configure):
    return configure("random", "", options={"width": 24, "seed": 3})


def features_of(config, examples):
    teacher = make_teacher(config)
    return teacher.features(teacher.prepare(examples))


def test_every_kind_of_example_has_features(config, images, texts):
    arrays = [{"array": np.arange(6.0).reshape(2, 3) + row} for row in range(5)]
    for examples in (images, texts, arrays):
        features = features_of(config, examples)
        assert features.keys() == {"pooled"}
        assert features["pooled"].shape == (5, 24)
        assert features["pooled"].dtype == np.float32
        assert features["pooled"].std(0).mean() > 0.01
        one = features_of(config, examples[2:3])["pooled"]
        np.testing.assert_allclose(one, features["pooled"][2:3], rtol=1e-5, atol=1e-5)


def test_an_example_of_two_parts_has_features_of_both(config, images, texts):
    examples = [image | text for image, text in zip(images, texts, strict=True)]
    features = features_of(config, examples)
    assert features.keys() == {"image", "text"}
    np.testing.assert_array_equal(features["text"], features_of(config, texts)["pooled"])


def test_the_projection_is_of_signs_and_linear(config):
    unit = [{"array": np.eye(9)[row]} for row in range(9)]
    matrix = features_of(config, unit)["pooled"]
    np.testing.assert_allclose(np.abs(matrix), 1 / 3, rtol=1e-6)  # 1 / sqrt(9)
    assert 0.3 < (matrix > 0).mean() < 0.7
    sums = [{"array": np.arange(9.0)}]
    wanted = np.arange(9.0) @ matrix
    np.testing.assert_allclose(features_of(config, sums)["pooled"][0], wanted, rtol=1e-5)


def test_an_image_is_read_at_32_pixels(config):
    """One colour is the same at every size."""
    colour = (10, 200, 90)
    both = [{"image": np.full((*size, 3), colour, np.uint8)} for size in [(32, 32), (7, 50)]]
    features = features_of(config, both)["pooled"]
    np.testing.assert_allclose(features[0], features[1], rtol=1e-5)


def test_options_are_the_identity(config):
    identity = identify_teacher(config)
    assert make_teacher(config).identity == identity
    for options in ({"width": 24, "seed": 4}, {"width": 25, "seed": 3}, {}):
        other = dataclasses.replace(config, options=options)
        assert identify_teacher(other) != identity
    explicit = dataclasses.replace(config, options={"width": 64, "seed": 0})
    assert identify_teacher(explicit) == identify_teacher(dataclasses.replace(config, options={}))


def test_another_seed_is_another_projection(config, texts):
    other = dataclasses.replace(config, options={"width": 24, "seed": 4})
    first, second = (features_of(each, texts)["pooled"] for each in (config, other))
    assert not np.allclose(first, second)


def test_texts_of_any_length(config):
    features = features_of(config, [{"text": text} for text in ("", "a", "über", "a" * 5000)])
    assert np.isfinite(features["pooled"]).all()


@pytest.mark.parametrize(
    "options", [{"width": 0}, {"width": 2.5}, {"depth": 3}, {"seed": "a"}, {"width": True}]
)
def test_options_are_whole_numbers(config, options):
    with pytest.raises(ConfigError, match="options of a random teacher has width, at least 1, and"):
        make_teacher(dataclasses.replace(config, options=options))


def test_an_example_without_any_known_part(config):
    with pytest.raises(DataError, match="one of image, text, array; this one has sound"):
        features_of(config, [{"sound": 1}])
