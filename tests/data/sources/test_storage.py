"""Files of a data set."""

import pytest

from aft_jax.data.sources.storage import entries, location, read
from aft_jax.errors import DataError


def test_entries_are_sorted_and_not_hidden(tmp_path):
    for name in ("b", "a", ".hidden", "_c"):
        (tmp_path / name).write_bytes(name.encode())
    found = entries(location(str(tmp_path)))
    assert [entry.name for entry in found] == ["_c", "a", "b"]
    assert read(found[1]) == b"a"


def test_what_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=rf"{path}: \w+Error: .*Check config\.data\.path"):
            read(location(str(path)))
    with pytest.raises(DataError, match=r"gs://bucket/file: \w+: .* gcsfs is installed"):
        read(location("gs://bucket/file"))
