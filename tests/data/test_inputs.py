"""What the student reads: squares of uint8, padded tokens, both; whole images and views."""

import numpy as np
import pytest

from aft_jax.config import AugmentConfig, InputsConfig
from aft_jax.config.defaults import base_config
from aft_jax.data import Dataset, make_inputs, prepare_examples
from aft_jax.data.images import cut, draw_view, fit
from aft_jax.errors import ConfigError

AUGMENT = AugmentConfig(min_area=0.5, flip=True)
TEXTS = ("a", "three", "a longer text", "mid size")


class Listed(tuple):
    """Examples held in a tuple, counting how often each is read."""

    def __init__(self, _):
        self.counts = [0] * len(self)

    def __getitem__(self, row):
        self.counts[row] += 1
        return super().__getitem__(row)


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (6 + row, 9, 3), dtype=np.uint8) for row in range(len(TEXTS))]


def config(kind: str, **changes) -> InputsConfig:
    small = {"kind": kind, "image_size": 4, "tokenizer": "bytes", "max_length": 16}
    raw = base_config().inputs.to_dict() | small | {"buckets": (4, 8, 16)} | changes
    return InputsConfig(**raw)


def dataset(*parts: str) -> Dataset:
    every = {"image": images(), "text": TEXTS, "array": np.arange(8.0).reshape(4, 2)}
    columns = {name: every[name] for name in parts}
    examples = Listed(
        {name: values[row] for name, values in columns.items()} for row in range(len(TEXTS))
    )
    ids = np.array([f"id{row}" for row in range(len(TEXTS))])
    return Dataset("toy", "v", "train", ids, np.zeros(4, np.int32), ("x",), examples, ids)


def reads(data: Dataset) -> list[int]:
    assert isinstance(data.examples, Listed)
    return data.examples.counts


def test_arrays_are_stacked():
    read = make_inputs(config("array"), AUGMENT, dataset("array"))
    np.testing.assert_array_equal(read(np.array([2, 0])), [[4.0, 5.0], [0.0, 1.0]])


def test_images_are_squares_of_uint8_and_decoded_once():
    data = dataset("image")
    read = make_inputs(config("image"), AUGMENT, data)
    before = list(reads(data))
    batch = read(np.array([3, 1, 3]))
    assert batch.dtype == np.uint8
    assert batch.shape == (3, 4, 4, 3)
    np.testing.assert_array_equal(batch[0], batch[2])
    np.testing.assert_array_equal(batch[1], fit(images()[1], 4, "stretch"))
    read(np.array([3, 1]))
    assert [reads(data)[row] - before[row] for row in (1, 3)] == [1, 1]


def test_a_view_is_cut_from_the_whole_image_by_its_key():
    data = dataset("image")
    read = make_inputs(config("image"), AUGMENT, data)
    read(np.arange(4))  # what is kept of the whole images is not what is cut
    batch = read(np.array([2]), views=["id2/1"])
    whole = images()[2]
    view = draw_view("id2/1", whole.shape[0], whole.shape[1], AUGMENT)
    expected = fit(cut(whole, view), 4, "stretch")
    np.testing.assert_array_equal(batch[0], expected)


def test_texts_are_padded_to_the_bucket_of_the_longest():
    read = make_inputs(config("text"), AUGMENT, dataset("text"))
    batch = read(np.array([0, 1]))
    assert batch["input_ids"].shape == (2, 8)
    assert batch["attention_mask"].sum(axis=1).tolist() == [1, 5]
    assert batch["input_ids"][1, :5].tolist() == [1 + byte for byte in b"three"]
    assert read(np.array([0]))["input_ids"].shape == (1, 4)


def test_processes_pad_a_shared_batch_alike():
    read = make_inputs(config("text"), AUGMENT, dataset("text"))
    assert read(np.array([0]), among=np.array([0, 2]))["input_ids"].shape == (1, 16)


def test_pairs_hold_both():
    read = make_inputs(config("image_text"), AUGMENT, dataset("image", "text"))
    batch = read(np.array([1]), views=["id1/0"])
    assert set(batch) == {"image", "input_ids", "attention_mask"}
    assert batch["image"].shape == (1, 4, 4, 3)


@pytest.mark.parametrize("kind", ["array", "image", "text", "image_text"])
def test_a_teacher_reads_what_the_student_reads(kind):
    data = dataset(*kind.split("_"))
    rows = np.array([1, 3])
    read = make_inputs(config(kind), AUGMENT, data)(rows)
    prepared = prepare_examples(config(kind), [data.examples[row] for row in rows])
    if kind in ("array", "image"):
        np.testing.assert_array_equal(prepared, read)
    else:
        assert set(prepared) == set(read)
        for name in read:
            np.testing.assert_array_equal(prepared[name], read[name])


def test_examples_without_the_kind_are_refused():
    with pytest.raises(ConfigError, match=r"'image_text' needs text, the examples of toy have im"):
        make_inputs(config("image_text"), AUGMENT, dataset("image"))


def test_a_large_data_set_is_not_kept(monkeypatch):
    monkeypatch.setattr("aft_jax.data.inputs.CACHE_BYTES", 4 * 4 * 4 * 3 - 1)
    data = dataset("image")
    read = make_inputs(config("image"), AUGMENT, data)
    before = reads(data)[1]
    first, second = read(np.array([1])), read(np.array([1]))
    np.testing.assert_array_equal(first, second)
    assert reads(data)[1] - before == 2
