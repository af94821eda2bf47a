"""Data sets that TFDS prepared on this machine, read without TensorFlow."""

import io
import json
import struct
import sys
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from aft_jax.data.sources.tfds_source import load_tfds
from aft_jax.data.templates import render
from aft_jax.errors import ConfigError, DataError


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """Images with class names; the second test image is damaged."""

    VERSION = tfds.core.Version("1.0.0")
    contents: ClassVar[list[bytes]] = []

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "mask": tfds.features.Image(shape=(None, None, 3)),
            "box": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=["dog", "cat"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(6), "test": self._generate_examples(3, b"?")}

    def _generate_examples(self, count, damage=None):
        box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
        for i in range(count):
            content = damage if damage and i == 1 else self.contents[i]
            yield (
                i,
                {
                    "image": io.BytesIO(content),
                    "mask": io.BytesIO(b"unread"),
                    "box": box,
                    "label": i % 2,
                },
            )


class TinyPairs(tfds.core.GeneratorBasedBuilder):
    """Pairs of texts, without labels in the test split."""

    VERSION = tfds.core.Version("2.0.0")

    def _info(self):
        features = {
            "premise": tfds.features.Text(),
            "hypothesis": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["yes", "no"]),
            "answer": np.bool_,
            "score": np.float32,
            "idx": np.int32,
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(1), "test": self._generate_examples(-1)}

    def _generate_examples(self, label):
        for i in range(3):
            yield (
                i,
                {
                    "premise": f"naïve {i}",
                    "hypothesis": f"好 {i}",
                    "label": i % 2 if label == 1 else -1,
                    "answer": i == 0,
                    "score": 0.5,
                    "idx": 10 + i,
                },
            )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, picture, encode):
    """Where TFDS keeps what it prepared."""
    TinyPictures.contents = [encode(picture(i)) for i in range(6)]
    path = tmp_path_factory.mktemp("tfds")
    for builder in (TinyPictures, TinyPairs):
        builder(data_dir=path, file_format="array_record").download_and_prepare()
    return path


@pytest.fixture
def pictures(data_dir):
    return data_dir / "tiny_pictures/1.0.0"


def contents(dataset):
    """Label and pixels of every example, in an order that any reader gives."""
    examples = [dataset.examples[row]["image"].tolist() for row in range(len(dataset))]
    return sorted(zip(dataset.labels.tolist(), examples, strict=True))


def expected(picture, rows):
    return sorted((i % 2, picture(i).tolist()) for i in rows)


def test_images_and_class_names(pictures, load, picture):
    dataset = load(load_tfds, pictures)
    assert dataset.classes == ("dog", "cat")
    assert contents(dataset) == expected(picture, range(6))
    assert list(dataset.examples[0]) == ["image"]
    assert dataset.examples[0]["image"].dtype == np.uint8


def test_tensorflow_is_not_needed(pictures, load):
    assert len(load(load_tfds, pictures)) == 6
    assert "tensorflow" not in sys.modules


def test_a_part_of_a_split(pictures, load, rows_of):
    whole = load(load_tfds, pictures)
    parts = [load(load_tfds, pictures, part) for part in ("train[:2]", "train[2:]")]
    assert [len(part) for part in parts] == [2, 4]
    assert rows_of(parts[0]) | rows_of(parts[1]) == rows_of(whole)


def test_names_are_looked_up_where_tfds_keeps_its_data(data_dir, load, monkeypatch, rows_of):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    by_path = load(load_tfds, data_dir / "tiny_pictures/1.0.0")
    for name in ("tiny_pictures", "tiny_pictures:1.0.0"):
        dataset = load(load_tfds, name)
        assert rows_of(dataset) == rows_of(by_path)
        assert dataset.version == by_path.version


def test_what_is_not_prepared_gets_prepared(tmp_path, data_dir, load, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    dataset = load(load_tfds, "tiny_pictures")
    assert dataset.version == load(load_tfds, data_dir / "tiny_pictures/1.0.0").version
    info = json.loads((tmp_path / "tiny_pictures/1.0.0/dataset_info.json").read_text())
    assert info["fileFormat"] == "array_record"


def test_texts_roles_and_ids(data_dir, load, rows_of):
    path = data_dir / "tiny_pairs/2.0.0"
    dataset = load(load_tfds, path, template="mnli", columns={"id": "idx"})
    texts = [render("mnli", {"premise": f"naïve {i}", "hypothesis": f"好 {i}"}) for i in range(3)]
    assert rows_of(dataset) == {
        "10": ("yes", {"text": texts[0]}),
        "11": ("no", {"text": texts[1]}),
        "12": ("yes", {"text": texts[2]}),
    }
    roles = {"text": "premise", "label": "answer", "id": "idx"}
    answers = load(load_tfds, path, columns=roles)
    assert answers.classes == ("false", "true")
    assert {name: label for name, (label, _) in rows_of(answers).items()} == {
        "10": "true", "11": "false", "12": "false",
    }  # fmt: skip
    unlabelled = load(load_tfds, path, "test", template="mnli")
    assert unlabelled.labels.tolist() == [-1] * 3


def as_tfrecords(source, target, parts):
    """The data set at `source` in TFRecord files: length, checksum, data, checksum, and so on."""
    target.mkdir()
    info = json.loads((source / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    builder: Any = tfds.builder_from_directory(source)
    for split in info["splits"]:
        records = list(builder.as_data_source(split=split["name"], deserialize_method=raw))
        pieces = np.array_split(np.arange(len(records)), parts)
        split["shardLengths"] = [str(len(piece)) for piece in pieces]
        for number, piece in enumerate(pieces):
            name = f"tiny_pictures-{split['name']}.tfrecord-{number:05}-of-{parts:05}"
            chunks = [
                struct.pack("<QI", len(records[row]), 7) + records[row] + struct.pack("<I", 7)
                for row in piece
            ]
            (target / name).write_bytes(b"".join(chunks))
    (target / "dataset_info.json").write_text(json.dumps(info))
    for name in ("features.json", "label.labels.txt"):
        (target / name).write_bytes((source / name).read_bytes())
    return target


@pytest.mark.parametrize("parts", [1, 4])
def test_tfrecords_without_tensorflow(parts, pictures, tmp_path, load, rows_of):
    path = as_tfrecords(pictures, tmp_path / "1.0.0", parts)
    before, after = load(load_tfds, pictures), load(load_tfds, path)
    assert rows_of(after) == rows_of(before)
    assert after.version == before.version
    assert after.ids.tolist() == before.ids.tolist()
    middle = load(load_tfds, path, "train[1:5]")
    assert middle.ids.tolist() == before.ids.tolist()[1:5]


def test_tfrecords_that_are_cut_short_or_missing(pictures, tmp_path, load):
    path = as_tfrecords(pictures, tmp_path / "1.0.0", 2)
    file = path / "tiny_pictures-train.tfrecord-00001-of-00002"
    content = file.read_bytes()
    for size in (len(content) - 1, len(content) // 2, 5, 0):
        file.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"00001-of-00002 has 3 records.* cut short in record"):
            load(load_tfds, path)
    file.unlink()
    with pytest.raises(DataError, match=r"00001-of-00002: FileNotFoundError"):
        load(load_tfds, path)


def test_files_without_random_access(pictures, tmp_path, load):
    path = as_tfrecords(pictures, tmp_path / "1.0.0", 1)
    info = json.loads((path / "dataset_info.json").read_text()) | {"fileFormat": "riegeli"}
    (path / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(ConfigError, match=r"from array_record or tfrecord files; .* has riegeli"):
        load(load_tfds, path)


def test_a_damaged_image(pictures, load, make_config):
    dataset = load(load_tfds, pictures, "test")
    whole = sorted(row for row in range(3) if dataset.labels[row] == 0)
    (damaged,) = set(range(3)) - set(whole)
    with pytest.raises(DataError, match=rf"1\.0\.0 split 'test' row {damaged} is none"):
        dataset.examples[damaged]
    records = load_tfds(make_config(pictures, on_error="skip"), "test")
    assert records.skipped == (f"{pictures} split 'test' row {damaged}",)
    assert list(records.labels) == [0, 0]


def test_columns_that_are_not_there_or_of_other_types(data_dir, pictures, load):
    with pytest.raises(
        ConfigError, match=r"has: box, image, label, mask; it has no 'picture' for 'image'"
    ):
        load(load_tfds, pictures, columns={"image": "picture"})
    with pytest.raises(
        ConfigError, match=r"image names an Image feature; 'label' of .* ClassLabel"
    ):
        load(load_tfds, pictures, columns={"image": "label"})
    with pytest.raises(ConfigError, match=r"features of one value; 'box' of .* is BBoxFeature"):
        load(load_tfds, pictures, columns={"label": "box"})
    roles = {"text": "premise", "label": "score"}
    with pytest.raises(DataError, match=r"a label is a class: .* row 0 has 0\.5"):
        load(load_tfds, data_dir / "tiny_pairs/2.0.0", columns=roles)


def test_names_that_are_unknown(pictures, tmp_path, load, monkeypatch):
    with pytest.raises(ConfigError, match=r"names splits of the data set, train, test; .*'dev'"):
        load(load_tfds, pictures, "dev")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"'no_such_set' is not prepared .*tfds build no_such_set"):
        load(load_tfds, "no_such_set")
    with pytest.raises(DataError, match=r"with the dataset_info\.json .*/nothing' is not prepared"):
        load(load_tfds, tmp_path / "nothing")
    with pytest.raises(DataError, match=r"gs://no-bucket/set: .*gcsfs"):
        load(load_tfds, "gs://no-bucket/set")


class NeedsNetwork(TinyPairs):
    """A builder whose download fails."""

    def _split_generators(self, dl_manager):
        raise ConnectionError("no route to host\nand a long trace")


class NeedsPackage(TinyPairs):
    """A builder that cannot do without another package."""

    def _split_generators(self, dl_manager):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")


def test_data_that_cannot_be_prepared(tmp_path, load, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"failed: ConnectionError: no route to host Without net"):
        load(load_tfds, "needs_network")
    with pytest.raises(ConfigError, match=r"which needs the package tensorflow; install it: pip"):
        load(load_tfds, "needs_package")
