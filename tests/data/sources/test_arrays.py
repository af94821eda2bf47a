"""Arrays in one file."""

import numpy as np
import pytest

from aft_jax.data.sources.arrays import load_arrays
from aft_jax.errors import DataError

IMAGES = np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3)
LABELS = np.array([1, 0, -1, 1], np.int32)


@pytest.fixture
def save(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "set.npz", **{k.replace("__", "/"): v for k, v in arrays.items()})
        return tmp_path / "set.npz"

    return save


def test_images_with_ids_and_class_names(save, load, rows_of):
    ids, names = np.array(["a", "b", "c", "d"]), np.array(["cat", "dog"])
    path = save(train__image=IMAGES, train__label=LABELS, train__id=ids, class_names=names)
    assert rows_of(load(load_arrays, path)) == {
        name: (label, {"image": image.tolist()})
        for name, label, image in zip("abcd", ["dog", "cat", None, "dog"], IMAGES, strict=True)
    }


def test_the_order_of_the_file_does_not_matter(save, load, rows_of):
    before = load(load_arrays, save(train__image=IMAGES, train__label=LABELS))
    after = load(load_arrays, save(train__image=IMAGES[::-1], train__label=LABELS[::-1]))
    assert rows_of(after) == rows_of(before)
    assert after.version == before.version
    changed = IMAGES.copy()
    changed[0, 0, 0, 0] += 1
    other = load(load_arrays, save(train__image=changed, train__label=LABELS))
    assert other.version != before.version


@pytest.mark.parametrize("grey", [IMAGES[..., 0], IMAGES[..., :1]])
def test_grey_images_become_coloured(grey, save, load):
    image = load(load_arrays, save(train__image=grey, train__label=LABELS)).examples[2]["image"]
    assert image.shape == (2, 3, 3)
    for channel in range(3):
        assert np.array_equal(image[..., channel], IMAGES[2, ..., 0])


def test_arrays_of_any_type(save, load):
    array = np.linspace(0, 1, 8, dtype=np.float32).reshape(4, 2)
    dataset = load(load_arrays, save(train__array=array, train__label=np.array(list("xyxy"))))
    assert dataset.classes == ("x", "y")
    assert dataset.examples[3]["array"].dtype == np.float32
    assert np.array_equal(dataset.examples[3]["array"], array[3])


def test_texts_and_pairs(save, load, make_config):
    texts = np.array(["one", "two", "three", "four"])
    dataset = load(load_arrays, save(train__image=IMAGES, train__text=texts, train__label=LABELS))
    example = dataset.examples[1]
    assert example["text"] == "two"
    assert type(example["text"]) is str
    assert np.array_equal(example["image"], IMAGES[1])
    texts[2] = " "
    path = save(train__text=texts, train__label=LABELS)
    with pytest.raises(DataError, match=r"at least one character; .*set\.npz split 'train' row 2"):
        load(load_arrays, path)
    records = load_arrays(make_config(path, on_error="skip"), "train")
    assert records.skipped == (f"{path} split 'train' row 2",)
    assert list(records.labels) == [1, 0, 1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train__image": IMAGES}, r"'train' has train/image, but no train/label"),
        ({"train__label": LABELS}, r"has train/label, but no train/image/array/text"),
        ({"test__image": IMAGES}, r"'train' has none, but no train/image/array/text"),
        (
            {"train__image": IMAGES, "train__label": LABELS[:3]},
            r"as many rows each; .* has \{'image': 4, 'label': 3\}",
        ),
        (
            {"train__image": IMAGES / 255, "train__label": LABELS},
            r"images are uint8 \[n, h, w, 3\].* has float64 \[4, 2, 3, 3\]",
        ),
        (
            {"train__image": IMAGES[..., :2], "train__label": LABELS},
            r"images are uint8 .* has uint8 \[4, 2, 3, 2\]",
        ),
        (
            {"train__image": IMAGES, "train__label": LABELS / 2},
            r"a label is a class: .*'train' row 0 has 0\.5",
        ),
        (
            {"train__image": IMAGES, "train__label": LABELS, "class_names": np.array(["only"])},
            "the 1 published classes, .* has label 1",
        ),
        (
            {"train__image": IMAGES, "train__label": LABELS, "train__id": np.zeros(4, int)},
            r"belongs to one example; .* has '0' \(4 rows\)",
        ),
        (
            {"train__image": IMAGES[:0], "train__label": LABELS[:0]},
            "split 'train' of data set 'set' has none",
        ),
        (
            {"train__array": np.array([{}] * 4), "train__label": LABELS},
            r"set\.npz: ValueError: Object arrays",
        ),
    ],
)
def test_arrays_that_do_not_fit(arrays, message, save, load):
    with pytest.raises(DataError, match=message):
        load(load_arrays, save(**arrays))


def test_files_that_cannot_be_read(tmp_path, load):
    with pytest.raises(DataError, match=r"no\.npz: FileNotFoundError"):
        load(load_arrays, tmp_path / "no.npz")
    with pytest.raises(DataError, match=r"gs://no-bucket/set\.npz: .*gcsfs"):
        load(load_arrays, "gs://no-bucket/set.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"bad\.npz: "):
        load(load_arrays, tmp_path / "bad.npz")
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(DataError, match=r"one\.npy: ValueError: one array"):
        load(load_arrays, tmp_path / "one.npy")
