"""The `verify` verb's function: stores are whole, and what their teachers compute today."""

import dataclasses

import numpy as np
import pytest

from aft_jax.errors import ConfigError, StoreError
from aft_jax.features import extract, verify
from tests.features.conftest import make_dataset, toy_features


def test_verify_recomputes_rows(run, toy):
    extract(run, {"toy": toy().teacher})
    lines = verify(run, {"toy": toy().teacher}, rows=8)
    assert lines[0].endswith(
        "toy-train: 6 files as written, 10 rows finite; 8 rows recomputed, at most 0.0e+00 away "
        "(allowed 0.001)"
    )
    assert "4 rows recomputed" in lines[1]


def test_verify_names_the_worst_row(run, toy):
    extract(run, {"toy": toy().teacher})
    x = toy_features(make_dataset(10))
    length = np.linalg.norm(x[3])

    def features(prepared):
        named = toy().features(prepared)
        near, wrong = prepared[:, 0] == 4.0, prepared[:, 0] == 6.0
        named["image"] = named["image"] + (1e-5 * near + 0.5 * length * wrong)[:, None]
        return named

    message = f"differs in 1 of 10 rows, most in that of example '{make_dataset(10).ids[3]}' "
    with pytest.raises(StoreError, match=message + r"\(row 3\): 0\.5\. Delete"):
        verify(run, {"toy": toy().teacher._replace(features=features)}, rows=10)


def test_verify_without_the_teacher_says_so(run, toy):
    extract(run, {"toy": toy().teacher})
    lines = verify(run)
    assert lines[1].endswith(
        "4 rows finite; no row recomputed: teacher toy is not on this machine (source 'nowhere')"
    )


def test_stores_that_are_not_on_this_machine(run, toy, tmp_path, monkeypatch):
    """Written, resumed and verified through a copy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    features = dataclasses.replace(run.features, directory="memory://verify")
    away = dataclasses.replace(run, features=features)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        extract(away, {"toy": toy(fail_after=2).teacher})
    again = toy()
    stores = extract(away, {"toy": again.teacher})
    assert stores[0] == "memory://verify/toy/toy-train"
    assert again.rows == 7 + 1 + 4  # train, one row to learn the width of tune, tune
    assert "10 rows recomputed" in verify(away, {"toy": toy().teacher})[0]


def test_no_rows_means_files_alone(run, toy):
    teacher = toy()
    extract(run, {"toy": teacher.teacher})
    before = teacher.rows
    lines = verify(run, {"toy": teacher.teacher}, rows=0)
    assert teacher.rows == before
    assert all("files as written" in line and "no row recomputed" in line for line in lines)
    with pytest.raises(ConfigError, match="--rows is a number of examples, 0 for none; got -1"):
        verify(run, rows=-1)
