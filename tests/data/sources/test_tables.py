"""Tables of texts and image paths on disk, in all three formats and with everything wrong."""

import csv
import json
import logging

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from aft_jax.data.sources.tables import load_csv, load_jsonl, load_parquet
from aft_jax.data.templates import render
from aft_jax.errors import ConfigError, DataError

ROWS = [
    {"text": 'Good, "really" good', "label": "pos"},
    {"text": "two\nlines, naïve — 好", "label": "neg"},
    {"text": "meh", "label": ""},
    {"text": "bad", "label": "neg"},
]
SOURCES = {"csv": load_csv, "jsonl": load_jsonl, "parquet": load_parquet}


def write(folder, kind, rows, split="train"):
    path = folder / f"{split}.{kind}"
    if kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    elif kind == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    else:
        parquet.write_table(pa.Table.from_pylist(rows), path)
    return folder


@pytest.fixture(params=list(SOURCES))
def kind(request):
    return request.param


def test_texts_and_classes(kind, tmp_path, load, rows_of):
    dataset = load(SOURCES[kind], write(tmp_path, kind, ROWS))
    assert dataset.classes == ("neg", "pos")
    assert dataset.labels.tolist() == [1, 0, -1, 0]
    assert [dataset.examples[row] for row in range(4)] == [{"text": row["text"]} for row in ROWS]
    assert len(rows_of(dataset)) == 4


def test_the_order_of_the_file_does_not_matter(kind, tmp_path, load, rows_of):
    before = load(SOURCES[kind], write(tmp_path, kind, ROWS))
    after = load(SOURCES[kind], write(tmp_path, kind, ROWS[::-1]))
    assert rows_of(after) == rows_of(before)
    assert after.version == before.version
    assert after.ids.tolist() == before.ids.tolist()[::-1]


def test_the_version_follows_the_content(kind, tmp_path, load):
    before = load(SOURCES[kind], write(tmp_path, kind, ROWS)).version
    assert load(SOURCES[kind], write(tmp_path, kind, ROWS[:3])).version != before
    changed = [*ROWS[:3], ROWS[3] | {"text": "worse"}]
    assert load(SOURCES[kind], write(tmp_path, kind, changed)).version != before
    relabelled = [*ROWS[:3], ROWS[3] | {"label": "pos"}]
    assert load(SOURCES[kind], write(tmp_path, kind, relabelled)).version != before


def test_all_formats_agree(tmp_path, load):
    versions = {load(SOURCES[kind], write(tmp_path, kind, ROWS)).version for kind in SOURCES}
    assert len(versions) == 1


def test_a_pattern_names_the_files_and_columns_have_roles(kind, tmp_path, load, rows_of):
    rows = [{"key": i, "words": row["text"], "class": i % 2} for i, row in enumerate(ROWS)]
    (tmp_path / "dev").mkdir()
    write(tmp_path / "dev", kind, rows, "part")
    roles = {"text": "words", "label": "class", "id": "key"}
    dataset = load(SOURCES[kind], f"{tmp_path}/{{split}}/part.{kind}", "dev", columns=roles)
    assert rows_of(dataset) == {
        str(i): (str(i % 2), {"text": row["text"]}) for i, row in enumerate(ROWS)
    }


def test_rows_without_labels(kind, tmp_path, load):
    dataset = load(
        SOURCES[kind], write(tmp_path, kind, ROWS), classes=("neg",), columns={"label": ""}
    )
    assert dataset.labels.tolist() == [-1] * 4


def test_a_template_joins_columns(kind, tmp_path, load):
    rows = [{"premise": "It rains.", "h": "It is wet.", "label": 0}]
    found = load(
        SOURCES[kind], write(tmp_path, kind, rows), template="mnli", columns={"hypothesis": "h"}
    ).examples[0]
    expected = render("mnli", {"premise": "It rains.", "hypothesis": "It is wet."})
    assert found == {"text": expected}


def test_duplicate_ids(kind, tmp_path, load):
    rows = [row | {"id": name} for row, name in zip(ROWS, "xyxz", strict=True)]
    with pytest.raises(DataError, match=r"belongs to one example; .* has 'x' \(2 rows\)"):
        load(SOURCES[kind], write(tmp_path, kind, rows))
    fine = load(SOURCES[kind], write(tmp_path, kind, rows), columns={"id": ""})
    assert len(set(fine.ids.tolist())) == 4


def test_missing_columns(kind, tmp_path, load):
    path = write(tmp_path, kind, [{"sentence": "a", "label": 0}])
    with pytest.raises(ConfigError, match=rf'is "image" or "text"; .*\.{kind} has sentence, label'):
        load(SOURCES[kind], path)
    with pytest.raises(ConfigError, match=r"has: sentence, label; it has no 'words' for 'text'"):
        load(SOURCES[kind], path, columns={"text": "words"})
    with pytest.raises(ConfigError, match="no 'premise' for 'premise'"):
        load(SOURCES[kind], path, template="mnli")
    with pytest.raises(ConfigError, match=r"no 'class' for 'label'.*if there is none"):
        load(SOURCES[kind], path, columns={"text": "sentence", "label": "class"})
    with pytest.raises(ConfigError, match="has the keys image, text, label, id; got words"):
        load(SOURCES[kind], path, columns={"words": "sentence"})


def test_an_empty_text(kind, tmp_path, load, make_config, caplog):
    path = write(tmp_path, kind, [*ROWS[:2], {"text": "  ", "label": "neg"}])
    place = "row 2" if kind == "parquet" else "line 5" if kind == "csv" else "line 3"
    with pytest.raises(DataError, match=rf"train\.{kind} {place} has '  ' in column 'text'"):
        load(SOURCES[kind], path)
    with caplog.at_level(logging.WARNING, "aft_jax"):
        records = SOURCES[kind](make_config(path, on_error="skip"), "train")
    assert records.skipped == (f"{path}/train.{kind} {place}",)
    assert caplog.messages[0].startswith("skipped 1 of 3 rows that cannot be read: ")
    assert (len(records.examples), list(records.labels)) == (2, ["pos", "neg"])


@pytest.mark.parametrize("label", ["0.5", "-1.25e3", "nan"])
def test_fractions_are_no_labels_in_csv(label, tmp_path, load):
    path = write(tmp_path, "csv", [{"text": "a", "label": label}])
    with pytest.raises(DataError, match=r"a label is a class: .*train\.csv line 2 has '.*bins"):
        load(load_csv, path)


@pytest.mark.parametrize("label", [0.5, 1.0, [1]])
def test_fractions_are_no_labels(label, tmp_path, load):
    for kind, place in (("jsonl", "line 1"), ("parquet", "row 0")):
        path = write(tmp_path, kind, [{"text": "a", "label": label}])
        with pytest.raises(DataError, match=rf"a label is a class: .*\.{kind} {place} has "):
            load(SOURCES[kind], path)


def test_truth_values_are_classes(tmp_path, load):
    rows = [{"text": "a", "label": True}, {"text": "b", "label": False}]
    for kind in ("jsonl", "parquet"):
        dataset = load(SOURCES[kind], write(tmp_path, kind, rows))
        assert dataset.classes == ("false", "true")
        assert dataset.labels.tolist() == [1, 0]


def test_a_table_in_another_encoding(tmp_path, load, make_config):
    text = 'text,label\nplain,a\n"over\ntwo lines",b\ncafé,a\nnaïve,b\n'
    (tmp_path / "train.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"UTF-8; .*train\.csv line 5 has the byte 0xE9.*iconv"):
        load(load_csv, tmp_path)
    records = load_csv(make_config(tmp_path, on_error="skip"), "train")
    assert records.skipped == (f"{tmp_path}/train.csv line 5", f"{tmp_path}/train.csv line 6")
    assert [records.examples[row]["text"] for row in range(2)] == ["plain", "over\ntwo lines"]

    (tmp_path / "train.csv").write_bytes("texté,label\na,b\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"train\.csv line 1 has the byte 0xE9"):
        load(load_csv, tmp_path)

    (tmp_path / "train.jsonl").write_bytes('{"text":"a"}\n{"text":"é"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match=r"train\.jsonl line 2 has the byte 0xE9"):
        load(load_jsonl, tmp_path, columns={"label": ""}, classes=("a",))


def test_a_byte_order_mark_is_no_text(tmp_path, load):
    (tmp_path / "train.csv").write_bytes("\ufefftext,label\na,b\n".encode())
    (tmp_path / "train.jsonl").write_bytes('\ufeff{"text": "a", "label": "b"}\n'.encode())
    assert load(load_csv, tmp_path).version == load(load_jsonl, tmp_path).version


def test_a_ragged_csv(tmp_path, load, make_config):
    (tmp_path / "train.csv").write_text("text,label\na,x\n\nb, really,x\nc\nd,x\n")
    with pytest.raises(DataError, match=r"a field per column \(2\); .*\.csv line 4 has 3"):
        load(load_csv, tmp_path)
    records = load_csv(make_config(tmp_path, on_error="skip"), "train")
    assert records.skipped == (f"{tmp_path}/train.csv line 4", f"{tmp_path}/train.csv line 5")
    assert len(records.examples) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "names its columns, each once; .* has none"),
        ("text,text\na,b\n", "names its columns, each once; .* has text, text"),
        ('text,label\na,b\n"open,b\n', r"quotes in pairs; .*train\.csv line 3: "),
        ("text,label\n", "split 'train' of data set 'set' has none"),
    ],
)
def test_csv_files_that_are_none(content, message, tmp_path, load):
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        load(load_csv, tmp_path, columns={"text": "text"})


@pytest.mark.parametrize("line", ["{", "[1]", '{"text": "a" "b"}'])
def test_lines_that_are_no_objects(line, tmp_path, load, make_config):
    (tmp_path / "train.jsonl").write_text(f'{{"text": "a", "label": 1}}\n\n{line}\n')
    with pytest.raises(DataError, match=r"is one JSON object; .*train\.jsonl line 3"):
        load(load_jsonl, tmp_path)
    records = load_jsonl(make_config(tmp_path, on_error="skip"), "train")
    assert (len(records.examples), records.skipped) == (1, (f"{tmp_path}/train.jsonl line 3",))


def test_a_letter_that_nobody_can_encode(tmp_path, load):
    (tmp_path / "train.jsonl").write_text('{"text": "a\\ud800", "label": 1}\n')
    with pytest.raises(DataError, match=r"a text is Unicode.*jsonl line 1 has 'a\\ud800'"):
        load(load_jsonl, tmp_path)


def test_a_parquet_file_that_is_none(tmp_path, load):
    (tmp_path / "train.parquet").write_bytes(b"text,label")
    with pytest.raises(DataError, match=r"is a Parquet file; .*train\.parquet"):
        load(load_parquet, tmp_path)


def test_paths_that_lead_nowhere(kind, tmp_path, load):
    with pytest.raises(DataError, match=rf"nowhere/train\.{kind}: FileNotFoundError"):
        load(SOURCES[kind], tmp_path / "nowhere")
    with pytest.raises(DataError, match=rf"gs://no-bucket/test\.{kind}: .*gcsfs"):
        load(SOURCES[kind], "gs://no-bucket", "test", ("a",))


@pytest.fixture
def pairs(tmp_path, picture, encode):
    """Rows of image paths and texts, as visual entailment has them."""
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        (tmp_path / f"pictures/{i}.png").write_bytes(encode(picture(i)))
    return [
        {"image": f"pictures/{i}.png", "text": f"picture {i}", "label": "ab"[i % 2]}
        for i in range(3)
    ]


def test_pairs_of_image_and_text(kind, pairs, tmp_path, load, picture):
    dataset = load(SOURCES[kind], write(tmp_path, kind, pairs))
    for row in range(3):
        example = dataset.examples[row]
        assert sorted(example) == ["image", "text"]
        assert example["text"] == f"picture {row}"
        assert np.array_equal(example["image"], picture(row))
    assert len(set(dataset.digests.tolist())) == 3


def test_a_picture_of_two_texts_is_two_examples(kind, pairs, tmp_path, load):
    dataset = load(SOURCES[kind], write(tmp_path, kind, [*pairs, pairs[0] | {"text": "other"}]))
    assert len(set(dataset.digests.tolist())) == 4


def test_images_that_cannot_be_read(kind, pairs, tmp_path, load, make_config):
    path = write(tmp_path, kind, pairs)
    (tmp_path / "pictures/1.png").write_bytes(b"no image")
    dataset = load(SOURCES[kind], path)
    with pytest.raises(DataError, match=rf"train\.{kind} .* \(.*/pictures/1\.png\) is none"):
        dataset.examples[1]
    (tmp_path / "pictures/2.png").unlink()
    with pytest.raises(DataError, match=rf"train\.{kind} .*: .*pictures/2\.png: FileNotFound"):
        load(SOURCES[kind], path)
    records = SOURCES[kind](make_config(path, on_error="skip"), "train")
    assert [name.partition("(")[2] for name in records.skipped] == [
        f"{tmp_path}/pictures/1.png)",
        f"{tmp_path}/pictures/2.png)",
    ]
    assert records.examples[0]["text"] == "picture 0"


def test_images_within_parquet(tmp_path, load, picture, encode):
    rows = [
        {"image": {"bytes": encode(picture(0)), "path": None}, "label": 0},
        {"image": {"bytes": encode(picture(1)), "path": "1.png"}, "label": 1},
    ]
    plain = [row | {"image": row["image"]["bytes"]} for row in rows]
    for table in (rows, plain):
        dataset = load(load_parquet, write(tmp_path, "parquet", table))
        assert np.array_equal(dataset.examples[1]["image"], picture(1))
    with pytest.raises(DataError, match=r"holds paths to images, .* row 0 has None"):
        load(
            load_parquet, write(tmp_path, "parquet", [{"image": None, "label": 0}]), classes=("0",)
        )
