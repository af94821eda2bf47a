"""Two real processes extract one store together."""

import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from aft_jax.config import resolve
from aft_jax.data import load_split
from aft_jax.features import join, open_store, store_path
from configs import digits

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path):
    program = [sys.executable, "-m", "tests.features.two_hosts", str(tmp_path)]
    children = [
        subprocess.Popen([*program, process], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for process in ("0", "1")
    ]
    for child in children:
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors
    raw: Any = digits.get_config("stage=student,smoke")
    raw.features.directory = str(tmp_path)
    config = resolve(raw)
    (name,) = config.teachers
    rows = 0
    for role in ("train", "tune"):
        dataset = load_split(config.data, role)
        opened = open_store(store_path(config, name, dataset.split), {})
        assert opened.manifest.shards >= 4
        expected = [dataset.examples[row]["array"].reshape(-1)[:8] for row in range(len(dataset))]
        np.testing.assert_array_equal(join(opened, dataset.ids), np.stack(expected))
        rows += len(dataset)
    computed = [int((tmp_path / f"computed{process}").read_text()) for process in (0, 1)]
    # Half each, but for whole shards, filled batches, and two looks at the width.
    assert max(computed) <= rows / 2 + 2 * (20 + 16 + 1)
