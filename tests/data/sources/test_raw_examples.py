"""What all sources share: hashing, reading in threads, skipping."""

import hashlib
import logging

import numpy as np
import pytest

from aft_jax.data.sources.raw_examples import collect, digest
from aft_jax.errors import DataError


class Rows:
    """Texts; an empty one cannot be read."""

    def __init__(self, texts):
        self.texts = texts

    def __len__(self):
        return len(self.texts)

    def raw(self, row):
        if not self.texts[row]:
            raise DataError(f"{self.name(row)} is empty.")
        return {"text": self.texts[row]}

    def name(self, row):
        return f"row {row}"


def test_the_digest_is_a_hash_of_keys_forms_and_contents():
    expected = hashlib.sha256("text  3\nné".encode()).hexdigest()[:16]
    assert digest({"text": "né"}) == expected
    array = np.array([1, 2], np.uint8)
    expected = hashlib.sha256(b"image uint8(2,) 2\n\x01\x02").hexdigest()[:16]
    assert digest({"image": array}) == expected


def test_no_two_contents_share_a_digest():
    two = np.arange(4, dtype=np.uint8)
    contents = [
        {"text": "ab"},
        {"image": b"ab"},
        {"image": b"a", "text": "b"},
        {"image": b"", "text": "ab"},
        {"array": two},
        {"array": two.reshape(2, 2)},
        {"array": two.astype(np.int8)},
        {"array": two.reshape(2, 2).T},
    ]
    assert len({digest(content) for content in contents}) == len(contents)
    assert digest({"text": "b", "image": b"a"}) == digest({"image": b"a", "text": "b"})
    assert digest({"array": two.reshape(2, 2).T}) == digest(
        {"array": np.array([[0, 2], [1, 3]], np.uint8)}
    )


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100])
def test_rows_keep_their_order(count):
    texts = [f"text {i}" for i in range(count)]
    records = collect(Rows(texts), [str(i) for i in range(count)], "raise")
    assert records.digests.tolist() == [digest({"text": text}) for text in texts]
    assert [records.examples[row]["text"] for row in range(count)] == texts
    assert records.skipped == ()


def test_the_first_row_that_cannot_be_read_is_named():
    texts = ["x"] * 40 + [""] + ["x"] * 40 + [""]
    with pytest.raises(DataError, match="row 40 is empty"):
        collect(Rows(texts), [0] * len(texts), "raise")


def test_skipped_rows_take_their_labels_and_ids_along(caplog):
    texts = ["" if row % 2 else f"text {row}" for row in range(100)]
    ids = [f"id {row}" for row in range(100)]
    with caplog.at_level(logging.WARNING, "aft_jax"):
        records = collect(Rows(texts), list(range(100)), "skip", ids=ids, classes=("c",) * 100)
    assert records.skipped == tuple(f"row {row}" for row in range(1, 100, 2))
    assert records.ids is not None
    assert records.ids.tolist() == ids[::2]
    assert list(records.labels) == list(range(0, 100, 2))
    assert [records.examples[row]["text"] for row in range(50)] == texts[::2]
    (message,) = caplog.messages
    assert message.startswith("skipped 50 of 100 rows that cannot be read: row 1, row 3, ")
    assert message.endswith(", row 39 and 30 more")
