"""Stores in a bucket, over HTTP: written, resumed, listed, copied once and read."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from tests.features.bucket import Bucket

ROOT = pathlib.Path(__file__).parents[2]

BEGIN = """
import json, logging, numpy as np
from aft_jax.features import *
from aft_jax.features import shards
from aft_jax.errors import StoreError
shards.MAX_SHARD_ROWS = 3
ids = np.array([f"id-{row}" for row in range(7)])
features = np.arange(21, dtype=np.float32).reshape(7, 3)
names = ["teacher_id", "teacher_revision", "teacher_weights_sha256", "preprocessing", "pooling"]
fields = dict.fromkeys([*names, "dataset_name", "dataset_version", "dataset_split"], "x")
path = "gs://bucket/some/stores/toy/train"
def batches(stop):
    yield features[:4]
    if stop:
        raise KeyboardInterrupt
    yield features[4:]
def write(stop=False):
    write_store(path, ids, batches(stop), 3, teacher_parameters=1, **fields)
def refused(call):
    try:
        call()
    except StoreError as error:
        print(error)
"""
WRITE = """
refused(lambda: open_store(path, {}))
try:
    write(stop=True)
except KeyboardInterrupt:
    pass
refused(lambda: open_store(path, {}))
print([store.state for store in list_stores("gs://bucket/some")])
write()
print(list_stores("gs://bucket/some/stores")[0][:7])
refused(lambda: open_store(path, {"pooling": "cls"}))
"""
READ = """
store = open_store(path, {})
print(np.array_equal(join(store, ids[::-1]), features[::-1]))
"""


@pytest.fixture(scope="module")
def bucket():
    bucket = Bucket()
    yield bucket
    bucket.close()


def run(program, url, cache):
    environment = os.environ | {
        "TENSORSTORE_GCS_HTTP_URL": url,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
        "XDG_CACHE_HOME": str(cache),
    }
    command = [sys.executable, "-c", BEGIN + program]
    child = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.splitlines()


@pytest.mark.slow
def test_a_store_in_a_bucket(bucket, tmp_path):
    none, half, states, listed, other = run(WRITE, bucket.url, tmp_path)
    assert "holds no store" in none
    assert "half-written: 1 of 3 shards are done" in half
    assert states == "['half-written, 1 of 3 shards']"
    assert listed == ("('gs://bucket/some/stores/toy/train', 'x', 'x', 'x', 7, 3, 'float32')")
    assert "pooling: the store has 'x', the run needs 'cls'" in other
    prefix = "some/stores/toy/train/"
    assert {f"{prefix}manifest.json", f"{prefix}features/c/2/0"} <= set(bucket.objects)

    # The first reader copies it; the second finds the copy and fetches the manifest alone.
    bucket.requests.clear()
    assert run(READ, bucket.url, tmp_path / "cache") == ["True"]
    assert sum("features%2Fc" in each for each in bucket.requests) == 3
    bucket.requests.clear()
    assert run(READ, bucket.url, tmp_path / "cache") == ["True"]
    assert not [each for each in bucket.requests if "manifest.json" not in each]
    copies = list((tmp_path / "cache/aft_jax").iterdir())
    assert [(copy / "ids.txt").read_text()[:5] for copy in copies] == ["id-0\n"]

    # Damage there and here.
    (copies[0] / "ids.txt").write_text("x")
    program = "refused(lambda: open_store(path, {}))"
    (line,) = run(program, bucket.url, tmp_path / "cache")
    assert f"Delete the local copy {copies[0]}" in line
    shard = f"{prefix}features/c/1/0"
    bucket.objects[shard] = bucket.objects[shard][:-1] + b"?"
    (line,) = run(program, bucket.url, tmp_path / "elsewhere")
    assert "train/features/c/1/0 has" in line
    manifest = f"{prefix}manifest.json"
    hashes = json.loads(bucket.objects[manifest])["files_sha256"]
    assert hashes["features/c/1/0"] in line


def test_a_bucket_that_cannot_be_reached(tmp_path):
    began = time.monotonic()
    (read,) = run("refused(lambda: open_store(path, {}))", "http://127.0.0.1:9", tmp_path)
    assert "gs://bucket/some/stores/toy/train/manifest.json cannot be read: " in read
    assert "your credentials" in read
    assert time.monotonic() - began < 60
