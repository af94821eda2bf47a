"""The `rank` verb on features whose worth is known, from the stores to the printed table."""

import csv
import dataclasses
import json
import sys
from typing import Any

import flax.linen as nn
import numpy as np
import pytest

from aft_jax import cli
from aft_jax.config import resolve
from aft_jax.config.defaults import base_config, teacher
from aft_jax.data.images import cut, draw_view, fit, stored_view
from aft_jax.errors import ConfigError, StoreError, UsageError
from aft_jax.experiments import format_ranking, rank
from aft_jax.experiments.ranking.rank import sampled_rows
from aft_jax.experiments.ranking.table import STUDENT, save_ranking
from aft_jax.features import extract, import_official
from aft_jax.training.evidence import start_features
from aft_jax.types import StudentOutput

pytestmark = pytest.mark.usefixtures("standard_promotion")

ROWS, CLASSES = 48, 3


def write_data(root):
    """Images whose brightness tells the class a little, and features that tell it more or less."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, rows in (("train", ROWS), ("tune", 9)):
        labels = np.arange(rows) % CLASSES
        pixels = 80 + 25 * labels[:, None, None, None] + rng.normal(0, 60, (rows, 6, 6, 3))
        arrays |= {
            f"{split}/image": np.clip(pixels, 0, 255).astype(np.uint8),
            f"{split}/label": labels,
        }
    arrays["train/label"][[7, 19]] = -1
    np.savez(root / "set.npz", **arrays)
    hot = np.eye(CLASSES)[np.arange(ROWS) % CLASSES]
    for name, width, strength in (("oracle", 6, 6.0), ("fair", 5, 1.5), ("noise", 4, 0.0)):
        features = rng.normal(size=(ROWS, width)) + strength * hot @ rng.normal(size=(3, width))
        features = features.astype(np.float32)
        np.savez(root / f"{name}.npz", train=features, test=features)


def raw_config(root, *names) -> Any:
    raw: Any = base_config()
    raw.data.update({"name": "known", "source": "arrays", "path": str(root / "set.npz")})
    raw.inputs.update({"kind": "image", "image_size": 6})
    raw.student.name = "small_cnn"
    raw.student.options = {"widths": (4,), "strides": (2,)}
    for name in names:
        raw.teachers[name] = teacher("imported", str(root / f"{name}.npz"))
    raw.features.directory = str(root / "features")
    raw.update({"batch_size": 8, "devices": 1, "steps": 2, "log_every": 1})
    raw.update({"eval_every": 2, "checkpoint_every": 2})
    return raw


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory with the data and the stores of three teachers."""
    directory = tmp_path_factory.mktemp("rank")
    write_data(directory)
    config = resolve(raw_config(directory, "oracle", "fair", "noise"))
    for name in config.teachers:
        import_official(config, config.teachers[name].source, name)
    return directory


@pytest.fixture(scope="module")
def ranking(root):
    config = resolve(raw_config(root, "noise", "oracle", "fair"))
    return rank(config, root / "work")


def test_the_order_is_that_of_what_the_teachers_know(ranking):
    singles = [row.label for row in ranking.ranked if len(row.members) == 1]
    assert singles == ["oracle", "fair", "noise"]
    accuracies = [row.scores.probe.accuracy for row in ranking.ranked]
    assert accuracies == sorted(accuracies, reverse=True)
    assert (ranking.rows, ranking.of_rows, ranking.unlabelled) == (ROWS - 2, ROWS, 2)
    assert ranking.classes == CLASSES


def test_every_pair_and_all_of_them_are_there(ranking):
    sets = {frozenset(row.members): row for row in ranking.ranked}
    pairs = [{"oracle", "fair"}, {"oracle", "noise"}, {"fair", "noise"}]
    everyone = {"oracle", "fair", "noise"}
    assert {frozenset(), *map(frozenset, [*pairs, everyone])} < set(sets)
    assert len(ranking.ranked) == 1 + 3 + 3 + 1
    assert sets[frozenset(everyone)].width == 6 + 5 + 4
    for members, row in sets.items():
        assert (row.osborn is not None) == (len(members) > 1)
    best, worst = sets[frozenset(pairs[0])].osborn, sets[frozenset(pairs[2])].osborn
    assert best is not None
    assert worst is not None
    assert best.score > worst.score


def test_the_table_says_what_to_beware_of(ranking):
    text = format_ranking(ranking)
    lines = text.splitlines()
    assert lines[0].startswith("known: 46 training examples (of 48; 2 have no label), 3 classes")
    assert [line.split()[0] for line in lines[3:11]] == [str(place) for place in range(1, 9)]
    for column in ("probe %", "LogME", "H-score", "TMI", "PED", "alignment", "OSBORN"):
        assert column in lines[2]
        assert f"\n  {column} " in text
    below = [row.label for row in ranking.below_student]
    warned = [line.split()[1] for line in lines if line.startswith("warning: ")]
    assert warned == below == ["noise"]
    assert "note: small_cnn starts from random weights" in text


def test_the_files_say_the_same(ranking, root):
    found = json.loads((root / "work/rank.json").read_text())
    assert [row["features"] for row in found["ranked"]] == [row.label for row in ranking.ranked]
    assert found["below_student"] == ["noise"]
    with (root / "work/rank.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["features"] for row in rows] == [row.label for row in ranking.ranked]
    best = ranking.ranked[0].scores
    assert float(rows[0]["accuracy"]) == best.probe.accuracy
    assert float(rows[0]["logme"]) == best.logme
    assert [row["features"] for row in rows if row["osborn"]] == [
        row.label for row in ranking.ranked if len(row.members) > 1
    ]


def test_numbers_that_are_none_are_shown_as_such(ranking, tmp_path):
    row = ranking.ranked[0]
    row = dataclasses.replace(row, scores=row.scores._replace(tmi=float("nan")))
    own = next(row for row in ranking.ranked if not row.members)
    changed = dataclasses.replace(ranking, ranked=(row, own))
    assert " \N{EN DASH} " in format_ranking(changed)
    save_ranking(changed, tmp_path / "new")
    assert json.loads((tmp_path / "new/rank.json").read_text())["ranked"][0]["tmi"] is None


def test_the_command_prints_the_table(root, tmp_path, monkeypatch, capsys):
    source = (
        "import pathlib\nfrom tests.experiments.test_rank import raw_config\n"
        "def get_config(arguments=''):\n"
        f"    return raw_config(pathlib.Path({str(root)!r}), 'noise', 'oracle')\n"
    )
    (tmp_path / "two.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["rank", f"--config={tmp_path / 'two.py'}"]) == 0
    printed = capsys.readouterr().out
    assert "oracle + noise" in printed
    assert STUDENT in printed
    assert [path.name for path in tmp_path.iterdir()] == ["two.py"]  # nothing without --workdir


def test_a_store_with_views_and_two_parts(root, tmp_path, monkeypatch):
    """A teacher's parts are one candidate, side by side; student and teacher see the first view."""
    arrays = dict(np.load(root / "set.npz"))
    for split in ("train", "tune"):
        rows = len(arrays[f"{split}/label"])
        arrays[f"{split}/text"] = np.array([f"{split} {row} " + "x" * row for row in range(rows)])
    np.savez(tmp_path / "set.npz", **arrays)
    raw = raw_config(tmp_path)
    raw.inputs.update({"kind": "image_text", "tokenizer": "bytes"})
    raw.inputs.update({"max_length": 64, "buckets": (64,)})
    raw.student.name = "small_pair"
    raw.student.options = {
        **{"channels": (4,), "strides": (2,), "vocab_size": 257, "embedding": 4},
        **{"widths": (5,), "dropout": 0.5},
    }
    raw.teachers.random = teacher("random", "", options={"width": 6, "seed": 0})
    raw.views = 2
    config = resolve(raw)
    extract(config)
    shown = []

    def watched(student, variables, data, *others):
        ids = data.dataset.ids[:5]
        images = [data.dataset.examples[row]["image"] for row in range(5)]
        views = [draw_view(stored_view(name, 0), 6, 6, config.augment) for name in ids.tolist()]
        cuts = [fit(cut(*pair), 6, "stretch") for pair in zip(images, views, strict=True)]
        shown.append((data.inputs(np.arange(5))["image"], np.stack(cuts)))
        return start_features(student, variables, data, *others)

    monkeypatch.setattr(sys.modules["aft_jax.experiments.ranking.rank"], "start_features", watched)
    found = {row.label: row for row in rank(config).ranked}
    np.testing.assert_array_equal(*shown[0])
    assert found["random"].width == 12
    assert found[STUDENT].width == 5


class TwoFactors(nn.Module):
    """Two linear views of an image."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train):
        pixels = images.reshape(images.shape[0], -1)
        image, text = (nn.Dense(width)(pixels) for width in (3, 4))
        logits = nn.Dense(self.num_classes, name="head")(image)
        return StudentOutput(logits, {"text": text, "image": image})


def test_the_factors_of_a_student_stand_side_by_side(root):
    raw = raw_config(root, "oracle")
    raw.student.name = f"{__name__}:TwoFactors"
    raw.student.options = {}
    found = {row.label: row.width for row in rank(resolve(raw)).ranked}
    assert found == {"oracle": 6, STUDENT: 3 + 4}


def test_rows_without_features_are_counted(root, tmp_path):
    raw = raw_config(root, "oracle", "fair")
    arrays = dict(np.load(root / "set.npz"))
    arrays["train/image"] = np.concatenate([arrays["train/image"], arrays["train/image"][:2] // 2])
    arrays["train/label"] = np.append(arrays["train/label"], [0, 1])
    np.savez(tmp_path / "set.npz", **arrays)
    raw.data.path = str(tmp_path / "set.npz")
    raw.features.missing = "skip"
    found = rank(resolve(raw))
    assert (found.rows, found.of_rows, found.missing) == (ROWS - 2, ROWS + 2, 2)
    assert "2 have no features in some store" in format_ranking(found)


def test_what_rank_refuses(root):
    with pytest.raises(ConfigError, match=r"config\.teachers is empty"):
        rank(resolve(raw_config(root)))
    raw = raw_config(root, "oracle")
    raw.features.directory = str(root / "elsewhere")
    with pytest.raises(StoreError, match="elsewhere"):
        rank(resolve(raw))


def test_too_few_labels_are_the_users_to_fix(root, tmp_path):
    arrays = dict(np.load(root / "set.npz"))
    arrays["train/label"] = np.full(ROWS, -1)
    arrays["train/label"][:3] = [0, 1, 2]
    np.savez(tmp_path / "set.npz", **arrays)
    raw = raw_config(root, "oracle")
    raw.data.path = str(tmp_path / "set.npz")
    raw.features.directory = str(tmp_path / "features")
    config = resolve(raw)
    import_official(config, config.teachers["oracle"].source, "oracle")
    with pytest.raises(UsageError, match=r"features of the student cannot be scored: .* 3 rows"):
        rank(config)


def test_a_sample_has_the_shares_of_the_classes():
    labels = np.random.default_rng(0).permutation(np.repeat([-1, 0, 1, 2], [50, 600, 290, 4]))
    rows = sampled_rows(labels, 100)
    assert len(rows) == len(set(rows.tolist())) == 100
    counts = np.bincount(labels[rows])
    assert abs(counts[0] - 67) <= 2
    assert abs(counts[1] - 32) <= 2
    assert counts[2] >= 1
    np.testing.assert_array_equal(rows, sampled_rows(labels, 100))
    np.testing.assert_array_equal(sampled_rows(labels, 894), np.flatnonzero(labels >= 0))


def test_a_large_split_is_sampled(root, monkeypatch):
    monkeypatch.setattr(sys.modules["aft_jax.experiments.ranking.rank"], "MAX_ROWS", 30)
    found = rank(resolve(raw_config(root, "oracle")))
    assert (found.rows, found.of_rows) == (30, ROWS)
