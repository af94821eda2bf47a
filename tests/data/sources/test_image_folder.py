"""Folders of real image files: what is read, under which ids, and what is refused or skipped."""

import hashlib
import logging

import numpy as np
import pytest

from aft_jax.data.sources.image_folder import load_image_folder
from aft_jax.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path, picture, encode):
    names = ["cat/1.png", "cat/2.bmp", "dog/1.png", "dog/2.tiff", "unlabelled/x.png"]
    kinds = ["PNG", "BMP", "PNG", "TIFF", "PNG"]
    for split, offset in (("train", 0), ("test", 100)):
        for number, (name, kind) in enumerate(zip(names, kinds, strict=True), start=offset):
            file = tmp_path / split / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(picture(number), kind))
    return tmp_path


def test_classes_are_folders_and_ids_are_paths(folder, load, rows_of, picture):
    assert rows_of(load(load_image_folder, folder)) == {
        "cat/1.png": ("cat", {"image": picture(0).tolist()}),
        "cat/2.bmp": ("cat", {"image": picture(1).tolist()}),
        "dog/1.png": ("dog", {"image": picture(2).tolist()}),
        "dog/2.tiff": ("dog", {"image": picture(3).tolist()}),
        "unlabelled/x.png": (None, {"image": picture(4).tolist()}),
    }


def test_an_example_is_decoded_on_request(folder, load, picture):
    example = load(load_image_folder, folder).examples[1]
    assert list(example) == ["image"]
    assert example["image"].dtype == np.uint8
    assert np.array_equal(example["image"], picture(1))


def test_hidden_files_are_left_out(folder, load):
    before = load(load_image_folder, folder)
    (folder / "train/.DS_Store").write_bytes(b"")
    (folder / "train/cat/._1.png").write_bytes(b"")
    assert load(load_image_folder, folder).ids.tolist() == before.ids.tolist()


def test_the_version_follows_the_content(folder, load, picture, encode):
    before = load(load_image_folder, folder)
    assert load(load_image_folder, folder).version == before.version
    (folder / "train/cat/1.png").write_bytes(encode(picture(50)))
    after = load(load_image_folder, folder)
    assert after.version != before.version
    assert after.ids.tolist() == before.ids.tolist()
    assert (after.digests != before.digests).tolist() == [True, False, False, False, False]


def test_equal_files_have_equal_digests(folder, load):
    content = (folder / "train/cat/1.png").read_bytes()
    (folder / "test/dog/copy.png").write_bytes(content)
    train = load(load_image_folder, folder)
    test = load(load_image_folder, folder, "test", train.classes)
    copy = test.ids.tolist().index("dog/copy.png")
    assert test.digests[copy] == train.digests[0]
    expected = hashlib.sha256(b"image  %d\n" % len(content) + content).hexdigest()[:16]
    assert train.digests[0] == expected


def test_a_corrupt_image_fails_when_asked_for(folder, load):
    (folder / "train/dog/1.png").write_bytes(b"no image")
    dataset = load(load_image_folder, folder)
    assert dataset.examples[0]["image"].shape == (4, 5, 3)
    with pytest.raises(DataError, match=r"file that Pillow reads; .*train/dog/1\.png is none"):
        dataset.examples[2]


def test_what_cannot_be_read_is_skipped_counted_and_listed(folder, load, make_config, caplog):
    content = (folder / "train/cat/1.png").read_bytes()
    (folder / "train/cat/1.png").write_bytes(content[: len(content) // 2])
    (folder / "train/dog/notes.txt").write_text("not an image")
    names = (str(folder / "train/cat/1.png"), str(folder / "train/dog/notes.txt"))
    config = make_config(folder, on_error="skip")
    with caplog.at_level(logging.WARNING, "aft_jax"):
        records = load_image_folder(config, "train")
    assert records.skipped == names
    assert caplog.messages == [f"skipped 2 of 6 rows that cannot be read: {', '.join(names)}"]
    dataset = load(load_image_folder, folder, on_error="skip")
    assert dataset.ids.tolist() == ["cat/2.bmp", "dog/1.png", "dog/2.tiff", "unlabelled/x.png"]
    assert dataset.labels.tolist() == [0, 1, 1, -1]
    assert all(dataset.examples[row]["image"].ndim == 3 for row in range(4))


def test_skipping_everything_leaves_an_empty_split(folder, load):
    for file in (folder / "train").rglob("*.*"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"split 'train' .* has none; 5 rows were skipped"):
        load(load_image_folder, folder, on_error="skip")


@pytest.mark.parametrize("ending", [".txt", ".pdf", ""])  # Pillow writes PDF, but reads none
def test_a_file_that_is_no_image_is_refused(ending, folder, load):
    (folder / f"train/dog/notes{ending}").write_text("not an image")
    with pytest.raises(DataError, match=rf"dog/notes{ending} ends in '{ending}'\. Remove it"):
        load(load_image_folder, folder)


def test_folders_within_classes_are_refused(folder, load, encode, picture):
    (folder / "train/cat/young").mkdir()
    (folder / "train/cat/young/3.png").write_bytes(encode(picture(9)))
    with pytest.raises(DataError, match=r"holds images only, .*train/cat/young is a folder"):
        load(load_image_folder, folder)


def test_files_beside_the_classes_are_refused(folder, load):
    (folder / "train/readme.md").write_text("hello")
    with pytest.raises(DataError, match=r"split/class/file; .*train/readme\.md is a file"):
        load(load_image_folder, folder)


def test_a_class_that_train_lacks(folder, load, encode, picture):
    (folder / "test/bird").mkdir()
    (folder / "test/bird/1.png").write_bytes(encode(picture(9)))
    with pytest.raises(DataError, match=r"\(cat, dog\); split 'test' .* 'bird' \(1 rows\), first"):
        load(load_image_folder, folder, "test", ("cat", "dog"))


def test_an_empty_split(tmp_path, load):
    (tmp_path / "train/cat").mkdir(parents=True)
    with pytest.raises(DataError, match="split 'train' of data set 'set' has none"):
        load(load_image_folder, tmp_path)


def test_paths_that_lead_nowhere(tmp_path, load):
    with pytest.raises(DataError, match=r"missing/train: FileNotFoundError.*Check config\.data"):
        load(load_image_folder, tmp_path / "missing")
    with pytest.raises(DataError, match=r"gs://no-bucket/set/train: .*may read it.*gcsfs"):
        load(load_image_folder, "gs://no-bucket/set")
    with pytest.raises(ConfigError, match=r"config\.data\.path says where .*; got ''"):
        load(load_image_folder, "")


def test_on_error_is_raise_or_skip(folder, load):
    with pytest.raises(ConfigError, match=r'on_error is "raise" or "skip"; got \'ignore\''):
        load(load_image_folder, folder, on_error="ignore")
