"""Features put together from parts: teachers side by side, splits one after another."""

import numpy as np
import pytest

from aft_jax.errors import StoreError
from aft_jax.features import TeacherFeatures, one_after_another, side_by_side
from aft_jax.features.residency import Source
from aft_jax.training.sharding import data_mesh, row_sharded


def features_of(tables, starts, views=0, residency="host"):
    """Features whose stored rows are `tables`; an example begins at its entry of `starts`."""

    def load(wanted):
        return {
            name: np.where((rows < 0)[:, None], 0, tables[name][np.maximum(rows, 0)])
            for name, rows in wanted.items()
        }

    rows = {name: np.asarray(starts) for name in tables}
    absent = int(np.sum(np.asarray(starts) < 0))
    dims = {name: table.shape[1] for name, table in tables.items()}
    source = Source({}, load, lambda tables, loaded: loaded)
    sharding = row_sharded(data_mesh(1, 1))
    return TeacherFeatures(
        dims, residency, absent, f"as {residency}", sharding, source, rows, views
    )


def table(first, rows, width=1):
    return np.arange(first, first + rows * width, dtype=np.float32).reshape(rows, width)


def test_teachers_side_by_side():
    ada = features_of({"ada": table(0, 3)}, [2, 0, -1])
    bob = features_of({"bob": table(10, 3, 2)}, [0, -1, 1], residency="stream")
    both = side_by_side([ada, bob])
    assert (both.dims, both.missing, both.residency) == ({"ada": 1, "bob": 2}, 2, "stream")
    assert both.reason == "as host; as stream"
    named, present = both.batch(np.array([0, 1, 2]), None)
    assert named["ada"].tolist() == [[2], [0], [0]]
    assert named["bob"].tolist() == [[10, 11], [0, 0], [12, 13]]
    assert present.tolist() == [1, 0, 0]


def test_teachers_with_other_views_are_refused():
    parts = [
        features_of({name: table(0, 4)}, [0, 2], views) for name, views in (("a", 2), ("b", 0))
    ]
    with pytest.raises(StoreError, match=r"same number of views; got \{'a': 2, 'b': 0\}"):
        side_by_side(parts)


def test_splits_one_after_another():
    train = features_of({"ada": table(0, 3)}, [2, -1, 0])
    tune = features_of({"ada": table(100, 2)}, [1, 0, -1])
    both = one_after_another(train, tune)
    assert both.missing == 2
    named, present = both.batch(np.array([4, 0, 3, 1, 2, 5]), None)
    assert named["ada"].tolist() == [[100], [2], [101], [0], [0], [0]]
    assert present.tolist() == [1, 1, 1, 0, 1, 0]


def test_views_stay_with_their_split():
    """The last view of the last row of the one is not the first of the other."""
    train = features_of({"ada": table(0, 4)}, [0, 2], views=2)
    tune = features_of({"ada": table(100, 4)}, [2, 0], views=2)
    named, _ = one_after_another(train, tune).batch(np.array([0, 1, 2, 3]), np.array([1, 1, 1, 0]))
    assert named["ada"].tolist() == [[1], [3], [103], [100]]


def test_a_split_without_any_features_comes_first():
    none = features_of({"ada": table(0, 1)}, [-1, -1])
    tune = features_of({"ada": table(100, 2)}, [0, 1])
    named, present = one_after_another(none, tune).batch(np.array([0, 2, 3]), None)
    assert named["ada"].tolist() == [[0], [100], [101]]
    assert present.tolist() == [0, 1, 1]
