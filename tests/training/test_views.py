"""Views on pixels: the student sees the very images that the teacher saw, each with its features.

The teacher here makes its features of a hash of the pixels, so that features tell the image.
"""

import hashlib
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from aft_jax.config import resolve, to_json
from aft_jax.config.defaults import base_config, teacher
from aft_jax.data.images import fit
from aft_jax.errors import ConfigError, StoreError
from aft_jax.features import extract, open_store, store_path
from aft_jax.teachers import Teacher, TeacherIdentity
from aft_jax.training import train, trainer

VIEWS, SIZE, STEPS, BATCH, ROWS = 3, 6, 10, 4, 8


def picture(split, row):
    """Noise of an odd size; neither two heights nor two widths of neighbours agree."""
    random = np.random.default_rng([len(split), row])
    return random.integers(0, 256, (7 + 2 * (row % 3), 15 - 2 * (row % 4), 3), np.uint8)


def as_folder(root):
    for split in ("train", "tune"):
        for row in range(ROWS):
            file = root / split / "ab"[row % 2] / f"{row}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(split, row)).save(file)
    return root


def as_arrays(root):
    arrays = {}
    for split in ("train", "tune"):
        sides = np.stack([picture(split, 0), *(picture(split, 12 * row) for row in range(1, ROWS))])
        arrays |= {f"{split}/image": sides, f"{split}/label": np.arange(ROWS) % 2}
        arrays[f"{split}/id"] = np.array([f"{split}{row}" for row in range(ROWS)])
    np.savez(root / "set.npz", **arrays)
    return root / "set.npz"


class Witness:
    """Keeps every image that it is shown, by the features that it makes of it."""

    def __init__(self):
        self.seen: dict[tuple, np.ndarray] = {}
        identity = TeacherIdentity("witness", "", "version 1", "none", "a hash")
        self.teacher = Teacher(identity, self.prepare, self.features, parameters=0)

    def prepare(self, examples):
        images = [example["image"].copy() for example in examples]
        self.seen |= {tuple(hash_of(image)): image for image in images}
        return images

    def features(self, images):
        return {"pooled": np.stack([hash_of(image) for image in images])}


def hash_of(image):
    """[8] whole numbers below 65,536, exact in float32."""
    digest = hashlib.sha256(str(image.shape).encode() + image.tobytes()).digest()
    return np.frombuffer(digest[:16], np.uint16).astype(np.float32)


@pytest.fixture(scope="module", params=["image_folder", "arrays"])
def extracted(request, tmp_path_factory):
    """A function from changes to a config whose stores are there, and the teacher they are of."""
    root = tmp_path_factory.mktemp(request.param)
    path = {"image_folder": as_folder, "arrays": as_arrays}[request.param](root)
    witness = Witness()

    def make(**changes):
        return config_of(request.param, path, root / "features", **changes)

    extract(make(), {"witness": witness.teacher})
    return make, witness


def config_of(source, path, features, **changes):
    raw: Any = base_config()
    raw.data.update({"name": "noise", "source": source, "path": str(path)})
    raw.inputs.update({"kind": "image", "image_size": SIZE})
    raw.student.options = {"widths": (4,), "strides": (2,)}
    raw.teachers.witness = teacher("custom", "no_such_module:witness")
    raw.features.update({"directory": str(features), "batch_size": 4, "threads": 2})
    raw.update({"method": "aft", "beta": 1.0, "views": VIEWS, "devices": 1})
    raw.update({"batch_size": BATCH, "steps": STEPS, "log_every": STEPS})
    raw.update({"eval_every": STEPS, "checkpoint_every": STEPS, **changes})
    return resolve(raw)


@pytest.fixture(scope="module")
def batches_of(tmp_path_factory):
    """Trains, each run once, and returns every batch as the step got it, in order."""
    known = {}

    def batches_of(config):
        key = to_json(config)
        if key not in known:
            known[key] = recorded(config, tmp_path_factory.mktemp("run"))
        return known[key]

    return batches_of


def recorded(config, directory):
    batches, original = {}, trainer._Run.call

    def record(self, state, steps, picks):
        feed = self.experiment.feed
        for place, step in enumerate(steps):
            picked = jax.tree.map(lambda leaf, at=place: leaf[at], picks)
            batches[step] = feed.gather(feed.tables, picked)
        return original(self, state, steps, picks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer._Run, "call", record)
        train(config, directory)
    assert sorted(batches) == list(range(config.steps))
    return [jax.device_get(batches[step]) for step in range(config.steps)]


def pixels(batches):
    return np.stack([batch.inputs for batch in batches])


def shown(batches, config):
    """(step, row of the batch) -> (example, view), by the place of its features in the store."""
    store = open_store(store_path(config, "witness", "train"), {})
    places = {tuple(row): place for place, row in enumerate(store.rows().read_all())}
    assert len(places) == ROWS * VIEWS
    return np.array(
        [
            [divmod(places[tuple(row)], VIEWS) for row in batch.teacher_features["witness"]]
            for batch in batches
        ]
    )


def test_the_student_sees_the_pixels_that_its_features_were_made_of(extracted, batches_of):
    make, witness = extracted
    for batch in batches_of(make()):
        np.testing.assert_array_equal(batch.feature_mask, np.ones(BATCH))
        for seen, features in zip(batch.inputs, batch.teacher_features["witness"], strict=True):
            cut = witness.seen[tuple(features)]
            np.testing.assert_array_equal(seen, fit(cut, SIZE, "stretch"))


def test_the_teacher_saw_the_rectangles_that_the_store_records(extracted):
    """Cut here by slicing, from the image that the test itself drew."""
    make, witness = extracted
    config = make()
    store = open_store(store_path(config, "witness", "train"), {})
    rows, views = store.rows().read_all(), store.views()
    for place, (top, left, height, width, flip) in enumerate(views.tolist()):
        number = int("".join(filter(str.isdigit, store.ids[place // VIEWS])))
        arrays = config.data.source == "arrays"
        image = picture("train", 12 * number if arrays else number)
        part = image[top : top + height, left : left + width]
        np.testing.assert_array_equal(
            witness.seen[tuple(rows[place])], part[:, ::-1] if flip else part
        )
    assert len(np.unique(views, axis=0)) > ROWS


def test_batches_have_each_example_once_an_epoch_with_its_own_label(extracted, batches_of):
    make, _ = extracted
    config = make()
    batches = batches_of(config)
    examples = shown(batches, config)[:, :, 0]
    for epoch in examples.reshape(-1, ROWS):
        assert sorted(epoch) == list(range(ROWS))
    ids = open_store(store_path(config, "witness", "train"), {}).ids
    for batch, rows in zip(batches, examples, strict=True):
        if config.data.source == "image_folder":
            assert ["ab"[label] for label in batch.labels] == [ids[row][0] for row in rows]
        else:
            np.testing.assert_array_equal(batch.labels, rows % 2)


def test_plain_fine_tuning_sees_the_same_pixels(extracted, batches_of):
    make, _ = extracted
    ours, plain = batches_of(make()), batches_of(make(method="stl"))
    np.testing.assert_array_equal(pixels(ours), pixels(plain))
    assert not plain[0].teacher_features


def test_epochs_and_seeds_show_other_views(extracted, batches_of):
    make, _ = extracted
    runs = []
    for seed in (0, 1):
        config = make(seed=seed)
        views = np.full((STEPS * BATCH // ROWS, ROWS), -1)
        for step, rows in enumerate(shown(batches_of(config), config)):
            for example, view in rows:
                views[step * BATCH // ROWS, example] = view
        runs.append(views)
        assert {*views.ravel().tolist()} == set(range(VIEWS))
        assert all(len(set(column)) > 1 for column in views.T.tolist())
    assert (runs[0] != runs[1]).any()


def test_evaluation_shows_whole_images(extracted, tmp_path):
    """A run with views and one without differ in training only: the same weights score alike."""
    make, _ = extracted
    scores = [
        train(make(method="stl", views=views, optim=make_still()), tmp_path / str(views))["tune"]
        for views in (0, VIEWS)
    ]
    assert scores[0] == scores[1]


def make_still():
    return {
        **{"learning_rate": 0.0, "weight_decay": 0.0},
        **{"scales_learning_rate": 0.0, "warmup_steps": 0},
    }


@pytest.fixture
def folder(tmp_path):
    """Like `extracted`, with stores that a test may damage."""
    path = as_folder(tmp_path / "images")

    def make(**changes):
        return config_of("image_folder", path, tmp_path / "features", **changes)

    return make, Witness().teacher


@pytest.mark.parametrize(("stored", "asked"), [(0, VIEWS), (VIEWS, 0), (VIEWS, 2)])
def test_stores_of_other_views_are_refused(folder, tmp_path, stored, asked):
    make, witness = folder
    extract(make(views=stored), {"witness": witness})
    with pytest.raises(StoreError, match="holds no store"):
        train(make(views=asked), tmp_path / "run")
    # Nor does it help to give the directory the other's name.
    there, wanted = (
        pathlib.Path(store_path(make(views=views), "witness", "train")) for views in (stored, asked)
    )
    shutil.move(there, wanted)
    with pytest.raises(
        StoreError, match=rf"views: the store has {stored}, the run needs {asked}[.;]"
    ):
        train(make(views=asked), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_views_cut_in_another_way_are_refused(folder, tmp_path):
    make, witness = folder
    extract(make(), {"witness": witness})
    with pytest.raises(StoreError, match=r"augmentation: the store has .*0\.5.*needs .*0\.25"):
        train(make(augment={"min_area": 0.25, "flip": True}), tmp_path / "run")


def test_fresh_views_are_refused_where_a_teacher_is_read(folder, tmp_path):
    make, witness = folder
    with pytest.raises(ConfigError, match=r"config\.views=-1 cuts fresh ones"):
        train(make(views=-1), tmp_path / "run")
    with pytest.raises(ConfigError, match="-1 cuts fresh ones in training"):
        extract(make(views=-1), {"witness": witness})


def test_fresh_views_are_new_every_epoch_and_for_every_seed(folder, batches_of):
    make, _ = folder
    changes = {"method": "stl", "views": -1, "batch_size": ROWS, "steps": 6}
    runs = [pixels(batches_of(make(**changes, seed=seed))) for seed in (0, 1)]
    images = {view.tobytes() for run in runs for batch in run for view in batch}
    # Images as small as these have few crops, and some come twice by chance.
    assert len(images) > 0.9 * 2 * 6 * ROWS


def test_views_of_what_is_no_image_are_refused(folder):
    make, _ = folder
    inputs = {**base_config().inputs.to_dict(), "kind": "array"}
    with pytest.raises(ConfigError, match=r"config\.views is 0 where inputs are no images"):
        make(inputs=inputs)
