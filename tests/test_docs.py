"""The pages under docs/: every command and every program on them is run, in small."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub reads it

import io
import json
import pathlib
import re
import runpy
import shlex
import shutil
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow_datasets as tfds
import torch
from PIL import Image

from aft_jax import cli
from aft_jax.config.defaults import IMAGENET_MEAN, IMAGENET_STD
from tests.teachers import checkpoints

pytestmark = pytest.mark.usefixtures("standard_promotion")

ROOT = pathlib.Path(__file__).parents[1]
PAGES = (
    "datasets",
    "students",
    "teachers",
    "stores",
    "soups",
    "side_by_side",
    "own_student",
    "ranking",
    "sweeps",
    "comparing",
    "reports",
    "scaling",
    "precision",
)  # in the order a reader meets them
HUB = {
    "facebook/dinov2-small": "models/dinov2",
    "openai/clip-vit-base-patch32": "models/clip",
    "distilbert-base-uncased": "models/bert",
    "bert-base-uncased": "models/bert",
}
"""What a page takes from the hub -> the tiny checkpoint that stands in for it."""

SMALL = {"steps": 2, "log_every": 1, "eval_every": 2, "checkpoint_every": 2, "batch_size": 16}
RUNS = {"extract", "train", "compare", "sweep"}  # the verbs that read sizes
COLOURS = {"blue": 2, "green": 1, "red": 0}


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    found = re.findall(r"^```(bash|python)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [Block(language, content) for language, content in found]


def commands(block: Block) -> list[str]:
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0] for line in lines if line]


def named(block: Block) -> str | None:
    """A block that begins with a file's name is that file; any other is a program."""
    name = re.match(r"# (\w+\.py)\n", block.text)
    return name[1] if name else None


def local(text: str) -> str:
    """The text with checkpoints of this machine in place of the hub's."""
    for hub, path in HUB.items():
        text = text.replace(f'"{hub}"', f'"{path}"')
    return text


def picture(colour: str, rng: np.random.Generator) -> bytes:
    pixels = rng.integers(0, 120, (20, 24, 3), dtype=np.uint8)
    pixels[..., COLOURS[colour]] += 130
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Shapes(tfds.core.GeneratorBasedBuilder):
    """The builder of the page on data sets."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=sorted(COLOURS)),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 30), "test": self._generate_examples(1, 9)}

    def _generate_examples(self, seed, rows):
        rng = np.random.default_rng(seed)
        for row in range(rows):
            colour = sorted(COLOURS)[row % 3]
            yield row, {"image": io.BytesIO(picture(colour, rng)), "label": colour}


def make_flowers(directory: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in {"train": 12, "test": 4}.items():
        for colour in COLOURS:
            folder = directory / split / colour
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.png").write_bytes(picture(colour, rng))
    (directory / "train/unlabelled").mkdir()
    (directory / "train/unlabelled/0.png").write_bytes(picture("red", rng))


def make_reviews(directory: pathlib.Path) -> None:
    directory.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in {"train": 40, "test": 8}.items():
        rows = ["sentence,label"]
        for row in range(count):
            words = rng.choice(checkpoints.WORDS, rng.integers(2, 30))
            rows.append(f"{' '.join(words)} {row},{'good' if row % 2 else 'bad'}")
        (directory / f"{split}.csv").write_text("\n".join(rows) + "\n")


def make_cifar10_mini(directory: pathlib.Path) -> None:
    """Files of the names and shapes of the real ones, a student of width 1/32 among them."""
    directory.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"class_names": np.array(["a", "b"])}
    for split, rows in {"train": 40, "test": 8}.items():
        arrays[f"{split}/image"] = rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)
        arrays[f"{split}/label"] = np.arange(rows, dtype=np.int32) % 2
        arrays[f"{split}/id"] = np.array([f"{split}{row}" for row in range(rows)])
    np.savez(directory / "images.npz", **arrays)
    features: dict[str, Any] = {
        split: rng.normal(size=(rows, 6)).astype(np.float16)
        for split, rows in {"train": 40, "test": 8}.items()
    }
    for teacher in ("mobilenet_v2_imagenet", "mobilenet_v2_birds"):
        np.savez(directory / f"{teacher}.npz", **features)
    np.savez(directory / "student_mobilenet_v1_025.npz", **mobilenet(rng))


def mobilenet(rng: np.random.Generator) -> dict[str, Any]:
    blocks = runpy.run_path(str(ROOT / "docs/examples/mobilenet_v1.py"))["BLOCKS"]
    shapes, channels = [(3, 3, 3, 8)], 8
    for _, wide in blocks:
        shapes += [(3, 3, channels), (1, 1, channels, wide // 4)]
        channels = wide // 4
    numbered = dict(enumerate(shapes)) | {len(shapes) + 1: (1, 1, channels, 7)}
    arrays: dict[str, Any] = {"meta": np.array(json.dumps({"ops": "a description"}))}
    for number, shape in numbered.items():
        arrays[f"op{number}.w"] = rng.normal(size=shape).astype(np.float32) * 0.2
        arrays[f"op{number}.b"] = np.zeros(shape[-1], np.float32)
    return arrays


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A directory with all that the pages suppose is there."""
    directory = tmp_path_factory.mktemp("docs")
    make_flowers(directory / "data/flowers")
    make_reviews(directory / "data/reviews")
    make_cifar10_mini(directory / "data/cifar10_mini")
    Shapes(data_dir=directory / "data/tfds", file_format="array_record").download_and_prepare()
    for name in {path.removeprefix("models/") for path in HUB.values()}:
        checkpoints.save(name, directory / "models" / name)
    processor = directory / "models/dinov2/preprocessor_config.json"
    checkpoints.edit(processor, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD)  # as published
    features: dict[str, Any] = {
        split: torch.randn(rows, 5, generator=torch.manual_seed(rows))
        for split, rows in {"train": 37, "test": 12}.items()
    }
    torch.save(features, directory / "official_features.pt")
    shutil.copytree(ROOT / "docs/examples", directory / "docs/examples")
    for page in PAGES:  # a page may use the files of another
        for block in blocks(page):
            if block.language == "python" and named(block):
                (directory / str(named(block))).write_text(local(block.text))
    return directory


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page, world, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.syspath_prepend(str(world))
    ran = 0
    for block in blocks(page):
        if block.language == "python":
            if not named(block):
                exec(local(block.text), {})
            continue
        for command in commands(block):
            assert run_command(command) == 0, command
            ran += 1
    assert ran >= 2


def run_command(command: str) -> int:
    words = shlex.split(command)
    if words[0] == "python":
        argv, sys.argv = sys.argv, words[1:]
        try:
            runpy.run_path(str(ROOT / words[1]), run_name="__main__")
        finally:
            sys.argv = argv
        return 0
    assert words[0] == "aft-jax"
    configs = [word for word in words if word.startswith("--config=configs/")]
    for word in configs:
        path, _, arguments = word.removeprefix("--config=").partition(":")
        small = ",".join(dict.fromkeys(filter(None, [*arguments.split(","), "smoke"])))
        words[words.index(word)] = f"--config={ROOT / path}:{small}"
    if words[1] in RUNS and configs:
        words.append("--config.devices=1")  # their batches need not divide by the tests' devices
    for number, word in enumerate(words):
        if word.startswith("--config.compare.betas="):
            words[number] = "--config.compare.betas=(10.0,)"
    if words[1] in RUNS and not configs and any(word.startswith("--config=") for word in words):
        words += [f"--config.{key}={value}" for key, value in SMALL.items()]
    return cli.main(words[1:])


def test_every_page_is_named_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        assert f"docs/{path.name}" in readme


def test_no_link_of_a_page_is_dead():
    for path in (ROOT / "docs").glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert link.startswith("http") or (path.parent / link).exists(), (path.name, link)
