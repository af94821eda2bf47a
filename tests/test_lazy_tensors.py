"""Tensors read one at a time, and the files that are refused before any is."""

import json
import os
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

from aft_jax.errors import UsageError
from aft_jax.lazy_tensors import open_tensors, read_header

NO_HEADER = r"is none: it has no header in JSON\. Download it again"
PICKLE = r"safetensors files only; .* is a pickle, which can run code when read"
INCOMPLETE = r"as long as its header says; .* has {} bytes of {}\. Download it again"


def save(path, **tensors):
    safetensors.save_file(tensors, path)
    return path


def write_header(path, header, data=b""):
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


@pytest.mark.parametrize("dtype", ["f4", "f2", ml_dtypes.bfloat16, "i8", "f8", "i4", "u1", "?"])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_a_tensor_is_read_as_it_was_written(dtype, shape, tmp_path):
    values = np.random.default_rng(0).normal(size=(3, *shape)) * 100
    written = {str(row): np.asarray(value.astype(dtype)) for row, value in enumerate(values)}
    tensors = open_tensors([save(tmp_path / "model.safetensors", **written)])
    assert tensors.keys() == written.keys()
    for name, tensor in tensors.items():
        array = tensor.read()
        assert (tensor.shape, tensor.dtype) == (shape, np.dtype(dtype))
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
        assert array.tobytes() == written[name].tobytes()
        array[...] = 0  # it is ours to change


def test_only_the_bytes_of_a_tensor_are_read(tmp_path):
    path = tmp_path / "model.safetensors"
    large = 2**30
    header = {
        "large": {"dtype": "U8", "shape": [large], "data_offsets": [0, large]},
        "small": {"dtype": "U8", "shape": [3], "data_offsets": [large, large + 3]},
    }
    write_header(path, json.dumps(header).encode())
    with path.open("ab") as file:  # the hole takes no room on disk
        file.truncate(path.stat().st_size + large)
        file.seek(0, os.SEEK_END)
        file.write(b"\x01\x02\x03")
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(open_tensors([path])["small"].read(), [1, 2, 3])
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 5, 8])
def test_a_file_without_its_header(size, tmp_path):
    path = save(tmp_path / "model.safetensors", a=np.ones(7, np.float32))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UsageError, match=INCOMPLETE.format(size, r"at least \d+")):
        read_header(path)


@pytest.mark.parametrize("change", [-28, -1, 1])
def test_a_file_of_another_length(change, tmp_path):
    path = save(tmp_path / "model.safetensors", a=np.ones(7, np.float32))
    content = path.read_bytes() + b"\x00"
    size = len(content) - 1
    path.write_bytes(content[: size + change])
    with pytest.raises(UsageError, match=INCOMPLETE.format(size + change, size)):
        read_header(path)


def test_a_file_that_ends_within_its_header(tmp_path):
    path = save(tmp_path / "model.safetensors", a=np.ones(7, np.float32))
    data = path.stat().st_size - 28
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UsageError, match=INCOMPLETE.format(40, f"at least {data}")):
        read_header(path)


def test_a_file_that_is_cut_after_its_header_was_read(tmp_path):
    path = save(tmp_path / "model.safetensors", a=np.ones(7, np.float32))
    tensor = read_header(path)["a"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match=r"stays as it is while it is read; .* lost its end"):
        tensor.read()


@pytest.mark.parametrize(
    "header", [b"", b"{", b"[]", b'{"a": }', b'{"a": ' * 10**5, b'{"\xff": 1}', b"{} {}"]
)
def test_a_header_that_is_no_json(header, tmp_path):
    with pytest.raises(UsageError, match=NO_HEADER):
        read_header(write_header(tmp_path / "model.safetensors", header, b"{}"))


def test_a_header_of_no_credible_length(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b'<html>\n {"a": 1}')
    with pytest.raises(UsageError, match=NO_HEADER):
        read_header(path)


def test_a_pointer_of_git_lfs(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 346293852\n")
    with pytest.raises(UsageError, match=r"is a pointer of Git LFS to the file\. .*git lfs pull"):
        read_header(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",  # torch.save before zip
        b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
        b"\x80\x05\x95\x01\x00\x00\x00\x00\x00\x00\x00}.",  # taken as a length, 27 MB
    ],
)
def test_a_pickle_is_refused(content, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=PICKLE):
        read_header(path)


def test_a_zip_is_refused(tmp_path):
    """What torch.save writes is a pickle in a zip."""
    np.savez(tmp_path / "model.npz", a=np.ones(3))
    with pytest.raises(UsageError, match=PICKLE):
        read_header(tmp_path / "model.npz")


@pytest.mark.parametrize("start", [b"PK", b"\x80\x02", b"\x80\x04"])
def test_a_header_as_long_as_the_first_bytes_of_a_pickle(start, tmp_path):
    """19,280 bytes, say, whose length is written "PK"."""
    header = b'{"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}'
    padded = header.ljust(int.from_bytes(start, "little"))
    path = write_header(tmp_path / "model.safetensors", padded, b"\x05\x06")
    assert path.read_bytes().startswith(start)
    np.testing.assert_array_equal(read_header(path)["a"].read(), [5, 6])


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": 4},
        {"shape": [3]},
        {"shape": [-1, -2]},
        {"shape": "2"},
        {"shape": [2.0]},
        {"data_offsets": [1, 2]},
        {"data_offsets": [-2, 0]},
        {"data_offsets": [0, 2, 4]},
        {"data_offsets": None},
    ],
)
def test_a_damaged_entry(change, tmp_path):
    entry = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]} | change
    path = write_header(tmp_path / "model.safetensors", json.dumps({"a": entry}).encode(), b"..")
    with pytest.raises(UsageError, match=r"gives a dtype, a shape and .* for 'a'\. Download it"):
        read_header(path)


def test_a_dtype_that_numpy_lacks(tmp_path):
    entry = {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}
    path = write_header(tmp_path / "model.safetensors", json.dumps({"a": entry}).encode(), b"..")
    with pytest.raises(UsageError, match=r"one of BOOL, .*'a' in .* is F8_E4M3\. Use a checkpoint"):
        read_header(path)


def test_a_tensor_in_two_shards(tmp_path):
    paths = [save(tmp_path / name, a=np.ones(2)) for name in ("1.safetensors", "2.safetensors")]
    with pytest.raises(UsageError, match=r"one file of .*'a' is in .*1\.safetensors and in .*2\.s"):
        open_tensors(paths)
