"""Data sets that `datasets` saved to disk."""

import datasets
import numpy as np
import pytest
from datasets import config as datasets_config

from aft_jax.data.sources.huggingface_source import load_huggingface
from aft_jax.data.sources.tables import load_jsonl
from aft_jax.data.templates import render
from aft_jax.errors import ConfigError, DataError

TEXTS = ["good", "naïve\n好", "meh", "bad"]


@pytest.fixture
def save(tmp_path):
    """Columns, and the features that `datasets` would not guess -> a directory with a split."""

    def save(columns, split="train", **features):
        table = datasets.Dataset.from_dict(columns)
        table = table.cast(datasets.Features({**table.features, **features}))
        datasets.DatasetDict({split: table}).save_to_disk(tmp_path / "saved")
        return tmp_path / "saved"

    return save


@pytest.fixture
def images(picture, encode):
    return [{"bytes": encode(picture(i)), "path": None} for i in range(4)]


CLASSES = datasets.ClassLabel(names=["dog", "cat"])


def test_images_and_class_names(save, images, load, picture):
    path = save({"image": images, "label": [0, 1, -1, 0]}, image=datasets.Image(), label=CLASSES)
    dataset = load(load_huggingface, path)
    assert dataset.classes == ("dog", "cat")
    assert dataset.labels.tolist() == [0, 1, -1, 0]
    for row in range(4):
        assert list(dataset.examples[row]) == ["image"]
        assert np.array_equal(dataset.examples[row]["image"], picture(row))


def test_images_that_lie_in_files(tmp_path, load, picture, encode, monkeypatch):
    monkeypatch.setattr(datasets_config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for i, name in enumerate(["ant", "bee"]):
        (tmp_path / "files/train" / name).mkdir(parents=True)
        (tmp_path / "files/train" / name / "x.png").write_bytes(encode(picture(i)))
    dataset = load(load_huggingface, tmp_path / "files")
    assert dataset.classes == ("ant", "bee")
    for row, label in enumerate(dataset.labels.tolist()):
        assert np.array_equal(dataset.examples[row]["image"], picture(label))
    (tmp_path / "files/train/bee/x.png").unlink()
    row = dataset.labels.tolist().index(1)
    with pytest.raises(DataError, match=rf"'train' row {row}: .*bee/x\.png: FileNotFoundError"):
        dataset.examples[row]


def test_the_order_of_the_table_does_not_matter(save, images, load, rows_of):
    columns = {"image": images, "text": TEXTS, "label": [0, 1, -1, 0]}
    before = load(load_huggingface, save(columns, image=datasets.Image(), label=CLASSES))
    turned = {name: values[::-1] for name, values in columns.items()}
    after = load(
        load_huggingface, save(turned, "test", image=datasets.Image(), label=CLASSES), "test"
    )
    assert rows_of(after) == rows_of(before)
    assert after.version == before.version
    assert after.ids.tolist() == before.ids.tolist()[::-1]
    assert sorted(before.examples[0]) == ["image", "text"]


def test_the_same_texts_in_json_lines_are_the_same_data_set(save, tmp_path, load):
    columns = {"text": TEXTS, "label": ["a", "b", None, "a"]}
    datasets.Dataset.from_dict(columns).to_json(tmp_path / "train.jsonl", force_ascii=False)
    saved, lines = load(load_huggingface, save(columns)), load(load_jsonl, tmp_path)
    assert saved.version == lines.version
    assert saved.ids.tolist() == lines.ids.tolist()
    relabelled = load(load_huggingface, save(columns | {"label": ["a", "b", None, "b"]}))
    assert relabelled.version != saved.version


def test_columns_have_roles_and_a_template_joins_them(save, load, rows_of):
    path = save({"idx": [4, 2], "premise": ["P", "Q"], "h": ["H", "I"], "gold": [True, False]})
    roles = {"id": "idx", "hypothesis": "h", "label": "gold"}
    assert rows_of(load(load_huggingface, path, template="mnli", columns=roles)) == {
        "4": ("true", {"text": render("mnli", {"premise": "P", "hypothesis": "H"})}),
        "2": ("false", {"text": render("mnli", {"premise": "Q", "hypothesis": "I"})}),
    }


def test_a_directory_of_data_files(tmp_path, load, monkeypatch):
    monkeypatch.setattr(datasets_config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "files").mkdir()
    (tmp_path / "files/train.csv").write_text("text,label\nhello,3\nworld,4\n")
    dataset = load(load_huggingface, tmp_path / "files")
    assert dataset.classes == ("3", "4")
    assert dataset.examples[1] == {"text": "world"}


def test_duplicate_ids(save, load):
    path = save({"id": ["x", "y", "x"], "text": ["a", "b", "c"], "label": [0, 1, 0]})
    with pytest.raises(DataError, match=r"belongs to one example; .* has 'x' \(2 rows\)"):
        load(load_huggingface, path)


def test_an_empty_split(save, load):
    path = save({"text": [], "label": []}, text=datasets.Value("string"))
    with pytest.raises(DataError, match=r"at least one example; .*saved split 'train' has none"):
        load(load_huggingface, path, classes=("a",))


def test_rows_that_cannot_be_read(save, images, load, make_config):
    images[1] = {"bytes": b"no image", "path": None}
    images[2] = None
    path = save({"image": images, "label": [0, 1, 1, 0]}, image=datasets.Image())
    with pytest.raises(DataError, match=r"saved split 'train' row 2 has neither"):
        load(load_huggingface, path)
    records = load_huggingface(make_config(path, on_error="skip"), "train")
    assert records.skipped == tuple(f"{path} split 'train' row {row}" for row in (1, 2))
    assert list(records.labels) == [0, 0]
    path = save({"image": images[:2], "label": [0, 1]}, image=datasets.Image())
    with pytest.raises(DataError, match=r"saved split 'train' row 1 is none: cannot identify"):
        load(load_huggingface, path).examples[1]


def test_columns_of_other_types(save, load):
    path = save({"image": ["x.png"], "text": ["a"], "label": [0.5]})
    with pytest.raises(ConfigError, match=r"image names an Image column; 'image' .* Value\('str"):
        load(load_huggingface, path)
    with pytest.raises(DataError, match=r"a label is a class: .* row 0 has 0\.5"):
        load(load_huggingface, path, columns={"image": ""})
    with pytest.raises(ConfigError, match=r"has: image, text, label; it has no 'words' for 'text'"):
        load(load_huggingface, path, columns={"text": "words"})


def test_paths_that_lead_nowhere(tmp_path, save, load, monkeypatch):
    path = save({"text": ["a"], "label": [0]})
    with pytest.raises(DataError, match=r"split 'dev' cannot be read: .*save_to_disk writes"):
        load(load_huggingface, path, "dev")
    with pytest.raises(DataError, match=r"'gs://no-bucket/set' .* cannot be read: .*gcsfs"):
        load(load_huggingface, "gs://no-bucket/set")
    monkeypatch.setattr(datasets_config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets_config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"'nobody/nothing:x' with split 'train' cannot be read"):
        load(load_huggingface, "nobody/nothing:x")


@pytest.mark.parametrize(
    ("path", "arguments"),
    [("glue:sst2", ("glue", "sst2")), ("owner/name", ("owner/name", None))],
)
def test_names_and_configurations_on_the_hub(path, arguments, load, monkeypatch):
    calls = []

    def load_dataset(*given, split):
        calls.append((*given, split))
        return datasets.Dataset.from_dict({"text": ["a"], "label": [0]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(load(load_huggingface, path, "validation")) == 1
    assert calls == [(*arguments, "validation")]
