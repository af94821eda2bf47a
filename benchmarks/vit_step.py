"""ViT-S/16 in training with the features of two giants, all on the device: images/s, FLOPs, AFT.

The second part of `benchmarks/train.py`. Images and features are random. A device without a
published peak in `PEAKS` has no utilisation. A CPU trains a small ViT instead.

Peaks are those of dense products in bfloat16, as the makers publish them: NVIDIA's data sheets of
the A100, H100 (SXM, PCIe and NVL differ) and H200, which count twice as many with sparsity; of TPUs
the table in `aft_jax/aot/chips.py`. A slice of a GPU has none.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from aft_jax.aot.chips import CHIPS
from aft_jax.aot.parts import without_weights
from aft_jax.config import Config, resolve
from aft_jax.data import Dataset
from aft_jax.features import TeacherFeatures, load_features, open_store, write_store
from aft_jax.training.batches import StudentData
from aft_jax.training.run_data import RunData
from aft_jax.training.sharding import data_mesh, row_sharded
from benchmarks.rounds import Rounds, Runner
from configs import cifar100_vit_s

WIDTHS = {"dinov2_g": 1536, "clip_g": 1408}
CLASSES = 100
GOAL = 0.01
"""Of the step time of plain fine-tuning that AFT may add, at a batch of `GOAL_BATCH`."""
GOAL_BATCH = 128

PEAKS: Mapping[str, float] = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "TPU v4": CHIPS["v4"].flops,
    "TPU v5 lite": CHIPS["v5e"].flops,
    "TPU v5e": CHIPS["v5e"].flops,
    "TPU v5": CHIPS["v5p"].flops,
    "TPU v5p": CHIPS["v5p"].flops,
    "TPU v6 lite": CHIPS["v6e"].flops,
    "TPU v6e": CHIPS["v6e"].flops,
    "TPU7x": CHIPS["tpu7x"].flops / CHIPS["tpu7x"].devices,
}
"""JAX's name of a TPU, start of that of a GPU -> floating point operations a second."""


class Size(NamedTuple):
    """What is trained.

    Attributes:
        image: pixels a side.
        options: of the student, besides those of ViT-S/16.
        batches: rows.
        rows: examples of the split.
        steps: of a round.
        steps_per_call: k.
        repeats: rounds.
    """

    image: int
    options: Mapping[str, int]
    batches: tuple[int, ...]
    rows: int
    steps: int
    steps_per_call: int
    repeats: int


ACCELERATOR = Size(224, {}, (128, 512), rows=1024, steps=40, steps_per_call=10, repeats=9)
SMALL = {"image_size": 64, "width": 128, "depth": 4, "heads": 4, "hidden": 512}
CPU = Size(64, SMALL, (32,), rows=64, steps=8, steps_per_call=4, repeats=9)


def forward_flops(options: Mapping[str, Any], classes: int) -> float:
    """Of the products of one image: patches, per block 4 maps, 2 of attention, 2 of the MLP, head.

    A product of [m, k] and [k, n] counts 2 m k n; norms, softmax and biases are left out.
    """
    width, hidden, patch = options["width"], options["hidden"], options["patch_size"]
    patches = (options["image_size"] // patch) ** 2
    tokens = patches + 1
    block = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
    return 2.0 * (patches * 3 * patch**2 * width + options["depth"] * block + width * classes)


def peak(kind: str) -> float | None:
    """What a device of this kind may do in a second; None where nobody has published it."""
    if kind.startswith("NVIDIA") and "MIG" not in kind:
        return next((flops for name, flops in PEAKS.items() if kind.startswith(name)), None)
    return PEAKS.get(kind)


def config_of(size: Size, batch: int) -> Config:
    """The run: all but the size is the CIFAR-100 config's."""
    config = without_weights(resolve(cifar100_vit_s.get_config()))
    options = {**config.student.options, **size.options}
    return dataclasses.replace(
        config,
        student=dataclasses.replace(config.student, options=options),
        inputs=dataclasses.replace(config.inputs, image_size=size.image),
        inputs_residency="device",
        precision="bfloat16",
        batch_size=batch,
        steps=size.steps,
        steps_per_call=size.steps_per_call,
    )


def random_data(size: Size) -> RunData:
    """Images of noise under random labels."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (size.rows, size.image, size.image, 3), np.uint8)
    dataset = Dataset(
        name="noise",
        version="",
        split="train",
        ids=np.char.mod("%06d", np.arange(size.rows)),
        labels=random.integers(0, CLASSES, size.rows).astype(np.int32),
        classes=tuple(map(str, range(CLASSES))),
        examples=[{"image": image} for image in images],
        digests=np.array([], str),
    )
    split = StudentData(dataset, lambda rows, *, views=None, among=None: images[rows])
    return RunData(split, split)


def random_features(dataset: Dataset, batch: int) -> TeacherFeatures:
    """Normal features, written to stores and read back onto the device."""
    random = np.random.default_rng(1)
    described = {
        **{"teacher_id": "noise", "teacher_revision": "", "teacher_weights_sha256": ""},
        **{"teacher_parameters": 0, "preprocessing": "", "pooling": ""},
        **{"dataset_name": "noise", "dataset_version": "", "dataset_split": "train"},
    }
    with tempfile.TemporaryDirectory() as name:
        stores = {}
        for teacher, width in WIDTHS.items():
            path = str(pathlib.Path(name) / teacher)
            rows = random.standard_normal((len(dataset), width), np.float32)
            write_store(path, dataset.ids, [rows], width, **described)
            stores[teacher] = open_store(path, {})
        return load_features(
            stores,
            dataset.ids,
            residency="device",
            missing="error",
            sharding=row_sharded(data_mesh(0, batch)),
        )


def measure(size: Size, batch: int) -> None:
    """Prints the table of one batch size."""
    config, data = config_of(size, batch), random_data(size)
    features = random_features(data.train.dataset, batch)
    rounds = Rounds(
        {
            method: Runner(dataclasses.replace(config, method=method), data, features)
            for method in ("stl", "aft")
        },
        size.repeats,
    )
    flops = 3 * forward_flops(config.student.options, CLASSES) * batch / jax.device_count()
    limit = peak(jax.devices()[0].device_kind)
    for method in rounds.seconds:
        step = rounds.median(method)
        share = f"{flops / step / limit:.1%} of the peak" if limit else "no published peak"
        print(
            f"batch {batch}, {method}: {1e3 * step:8.2f} ms a step, {batch / step:8.1f} images/s, "
            f"{flops / step / 1e12:7.2f} TFLOP/s of the model on a device, {share}"
        )
    added = rounds.ratio("aft", "stl") - 1
    goal = ""
    if batch == GOAL_BATCH:
        goal = f", goal at most {GOAL:.0%}: {'met' if added <= GOAL else 'missed'}"
    print(f"batch {batch}: AFT adds {added:.2%} to a step{goal}")


def main() -> None:
    """The part of `benchmarks/train.py`."""
    small = jax.default_backend() == "cpu"
    size = CPU if small else ACCELERATOR
    options = config_of(size, size.batches[0]).student.options
    if small:
        print("no accelerator here: a small ViT on the CPU; the goal for AFT is a GPU's")
    print(
        f"ViT of width {options['width']}, {options['depth']} blocks, {size.image} pixels, patches "
        f"of {options['patch_size']}, bfloat16, teachers {' + '.join(map(str, WIDTHS.values()))} "
        f"wide, k={size.steps_per_call}, {3 * forward_flops(options, CLASSES) / 1e9:.2f} GFLOP of "
        f"the model an image (median of {size.repeats})"
    )
    for batch in size.batches:
        measure(size, batch)
