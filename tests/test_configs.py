"""The configs of the repository's own data sets: what they name exists, and they run in small."""

import pathlib
import re
import subprocess
from typing import Any

import numpy as np
import pytest

from aft_jax.config import Config, resolve
from aft_jax.config.file import load_config
from aft_jax.data import SOURCES, load_split
from aft_jax.data.inputs import make_inputs
from aft_jax.data.templates import TEMPLATES
from aft_jax.errors import ConfigError
from aft_jax.features import extract
from aft_jax.losses.regularizer import REGULARIZERS
from aft_jax.students import STUDENTS, make_student
from aft_jax.students.pretrained.known import ALIASES, KNOWN
from aft_jax.teachers import TEACHERS
from aft_jax.training import train
from configs import students

ROOT = pathlib.Path(__file__).parents[1]
KINDS = {
    "image": {
        "cifar10": "test",
        "cifar100": "test",
        "oxford_flowers102": "test",
        "oxford_iiit_pet": "test",
        "dtd": "test",
        "food101": "validation",
        "fgvc_aircraft": "test",
    },
    "text": {
        "imdb": "test",
        "boolq": "validation",
        "mnli": "validation_matched",
        "sst2": "validation",
        "mrpc": "validation",
        "qqp": "validation",
        "qnli": "validation",
        "rte": "validation",
        "cola": "validation",
        "wnli": "validation",
    },
    "image_text": {"snli_ve": "test"},
}
"""What the student reads -> data set -> the split that is evaluated once."""

ALL = [name for names in KINDS.values() for name in names]
PAIRS = {
    "cifar100_vit_s": ("cifar100", "vit_s", 1e-4),
    "flowers_resnet50": ("oxford_flowers102", "resnet50", 1e-3),
    "pets_mixer_b": ("oxford_iiit_pet", "mixer_b", 1e-4),
    "sst2_bert_small": ("sst2", "bert_small", 1e-4),
    "mnli_distilbert": ("mnli", "distilbert", 5e-5),
    "snli_ve_clip": ("snli_ve", "clip_rn50", 1e-5),
}
"""Config of one of the paper's pairs -> data set, student and learning rate."""

TABLES = {
    "image": students.VISION_STUDENTS,
    "text": students.TEXT_STUDENTS,
    "image_text": students.PAIR_STUDENTS,
}
PUBLISHED_TUNE = {"oxford_flowers102": "validation", "dtd": "validation"}
SHAPES = {"image": (32, 32, 3), "input_ids": None, "attention_mask": None}


def config(name, arguments="") -> Config:
    return resolve(load_config(f"{ROOT}/configs/{name}.py:{arguments}"))


def test_every_data_set_has_its_file():
    files = {path.stem for path in (ROOT / "configs").glob("*.py")}
    assert set(ALL) <= files


@pytest.mark.parametrize("name", ALL)
def test_what_it_names_exists(name):
    whole = config(name)
    assert whole.data.name == name
    assert whole.data.source in SOURCES
    assert whole.data.template in ("", *TEMPLATES)
    assert whole.student.name in STUDENTS
    assert whole.method in REGULARIZERS
    assert whole.teachers
    for teacher in whole.teachers.values():
        assert teacher.kind in TEACHERS
    assert KNOWN[ALIASES.get(whole.student.pretrained, whole.student.pretrained)] in STUDENTS
    REGULARIZERS[whole.method](**whole.method_options)


@pytest.mark.parametrize("name", ALL)
def test_the_published_settings(name):
    whole = config(name)
    assert whole.inputs.kind == next(kind for kind, names in KINDS.items() if name in names)
    assert whole.data.template == ("" if whole.inputs.kind == "image" else name)
    assert (whole.batch_size, whole.views) == (128, 0)
    assert whole.steps == (20_000 if name in ("mnli", "qqp", "qnli") else 5_000)
    assert whole.optim.weight_decay == 0
    assert whole.optim.learning_rate == {"image": 1e-4, "text": 1e-4}.get(whole.inputs.kind, 1e-5)
    assert whole.optim.scales_learning_rate == 1e-2
    assert (whole.method, whole.beta) == ("aft", 10.0)


@pytest.mark.parametrize("name", ALL)
def test_the_splits(name):
    data = config(name).data
    assert data.test == next(names[name] for names in KINDS.values() if name in names)
    assert data.train == ("trainval" if name == "fgvc_aircraft" else "train")
    assert data.tune == PUBLISHED_TUNE.get(name, "")
    assert data.tune_fraction == (0.0 if name in PUBLISHED_TUNE else 0.1)
    assert data.tune != data.test


@pytest.mark.parametrize("name", ALL)
def test_arguments(name):
    with pytest.raises(ConfigError, match=r"'beta' is unknown; .* smoke, student, teachers"):
        config(name, "beta=3")
    with pytest.raises(ConfigError, match=r"teachers is none, or names .*; got 'resnet' in 'resn"):
        config(name, "teachers=resnet")
    with pytest.raises(ConfigError, match=r"argument student is one of .*; got 'vit_xxl'"):
        config(name, "student=vit_xxl")
    plain = config(name, "teachers=none")
    assert (plain.method, plain.beta, plain.teachers) == ("stl", 0.0, {})


def test_several_teachers_keep_their_settings():
    both = config("sst2", "teachers=llama2_7b+gpt2_s").teachers
    assert set(both) == {"llama2_7b", "gpt2_s"}
    assert both["llama2_7b"].dtype == "bfloat16"
    assert both["gpt2_s"].source == "openai-community/gpt2"
    assert config("snli_ve").teachers["clip_l"].tower == "both"
    assert config("snli_ve").method_options == {"combine": "product"}


def test_changing_one_config_changes_no_other():
    raw: Any = load_config(f"{ROOT}/configs/cifar10.py:student=small_cnn")
    raw.teachers.dinov2_g.dtype = "bfloat16"
    raw.student.options.widths = (8, 8, 8, 8)
    assert config("cifar10").teachers["dinov2_g"].dtype == "float32"
    assert config("cifar10", "student=small_cnn").student.options["widths"] == (64, 128, 256, 512)


@pytest.mark.parametrize("name", [*ALL, *PAIRS])
def test_the_docstring_says_how_to_run_it(name):
    text = (ROOT / "configs" / f"{name}.py").read_text()
    for verb in ("extract", "train  ", "compare"):
        assert f"    aft-jax {verb} --config=configs/{name}.py" in text
    assert re.search(r"^Lab note\. ", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", ALL)
def test_smoke_builds_its_inputs(name):
    small = config(name, "smoke")
    assert set(config(name).teachers) == set(small.teachers)
    for role in ("train", "tune", "test"):
        dataset = load_split(small.data, role)
        assert len(dataset) >= small.batch_size
        inputs = make_inputs(small.inputs, small.augment, dataset)(np.arange(3))
        parts = {"image": inputs} if small.inputs.kind == "image" else inputs
        for part, value in parts.items():
            assert value.shape == (3, *(SHAPES[part] or value.shape[1:])), part
            assert part == "image" or value.shape[1] in small.inputs.buckets


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_its_data_set_with_its_student(name):
    data_set, student, rate = PAIRS[name]
    whole = config(name)
    assert whole == config(data_set, f"student={student}")
    assert whole.optim.learning_rate == rate
    assert config(name, "teachers=none").method == "stl"
    with pytest.raises(ConfigError, match=r"'student' is unknown; .* smoke, teachers"):
        config(name, "student=small_cnn")


STUDENT_CASES = [(kind, name) for kind, table in TABLES.items() for name in table]
DATA_SETS = {"image": "cifar10", "text": "mrpc", "image_text": "snli_ve"}


@pytest.mark.parametrize(("kind", "name"), STUDENT_CASES)
def test_every_student_builds(kind, name):
    """In small, and its public weights are those of its architecture."""
    whole = config(DATA_SETS[kind], f"student={name}")
    known = ALIASES.get(whole.student.pretrained, whole.student.pretrained)
    assert not known or KNOWN[known] == whole.student.name
    small = config(DATA_SETS[kind], f"student={name},smoke")
    assert small.student.pretrained == ""
    make_student(small.student.name, 3, small.student.options)


def test_every_architecture_has_its_smoke_options():
    assert set(students.SMOKE_OPTIONS) == set(STUDENTS)


SMOKE_RUNS = [*((name, "") for name in PAIRS), ("cifar10", "student=mobilenet_v4_s,")]


@pytest.mark.parametrize(("name", "arguments"), SMOKE_RUNS)
def test_smoke_runs_to_its_end(name, arguments, tmp_path, monkeypatch, standard_promotion):
    monkeypatch.chdir(tmp_path)
    raw = load_config(f"{ROOT}/configs/{name}.py:{arguments}smoke")
    raw.update(steps=2)
    small = resolve(raw)
    stores = extract(small)
    assert len(stores) == 2 * len(small.teachers)
    train(small, tmp_path / "run")
    assert (tmp_path / "run" / "student" / "model.safetensors").is_file()


def test_the_commands_for_aircraft_make_the_tables(tmp_path):
    text = (ROOT / "configs" / "fgvc_aircraft.py").read_text()
    found = re.search(r"^ +(for split in .*?done)$", text, flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    for split in ("trainval", "test"):
        lines = f"0034309 Boeing 747-400\n0034958 {split}\n"
        (tmp_path / f"images_variant_{split}.txt").write_text(lines)
    subprocess.run(["bash", "-ec", found[1]], cwd=tmp_path, check=True)
    assert (tmp_path / "test.csv").read_text() == (
        "image,label\nimages/0034309.jpg,Boeing 747-400\nimages/0034958.jpg,test\n"
    )
    assert (tmp_path / "trainval.csv").read_text().count("\n") == 3
