"""Our students against their torch originals: one forward and backward pass of the same model.

    python benchmarks/students.py [--models=vit_s,resnet50] [--repeats=7] [--batch=8]

Both sides have the same weights, read the same batch and compute the gradient of the same
cross-entropy with respect to every parameter, in training mode, on the same device: in float32 on a
CPU, in bfloat16 (autocast on torch's side) on a GPU. They take turns; ratios are medians over the
rounds. Goal on a CPU: at most 1.3 times the original's time. Needs the extras train and teachers.
"""

import argparse
import importlib
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aft_jax.students import make_student
from aft_jax.students.pretrained.format import Format
from aft_jax.students.pretrained.formats import FORMATS
from aft_jax.students.pretrained.public import load_public
from benchmarks.timing import describe_machine
from tests.students.pretrained.parity import tensors_of
from tests.teachers.torchvision_ops import import_torchvision

import_torchvision()
timm: Any = importlib.import_module("timm")  # needs the line above

GOAL = 1.3
CLASSES = 100
TOKENS = 128


class Pair(NamedTuple):
    """One model on both sides.

    Attributes:
        original: the torch model.
        description: its config.json.
        inputs: what our student reads.
        theirs: what the torch model is called with.
    """

    original: Any
    description: Mapping[str, Any]
    inputs: Any
    theirs: Mapping[str, Any]


def images(architecture: str) -> Callable[[int], Pair]:
    def make(batch: int) -> Pair:
        model = timm.create_model(architecture, num_classes=CLASSES)
        size = model.pretrained_cfg["input_size"]
        description = {"architecture": architecture, "pretrained_cfg": {"input_size": size}}
        pixels = np.random.default_rng(0).normal(size=(batch, *size[1:], 3)).astype(np.float32)
        theirs = {"x": torch.tensor(pixels.transpose(0, 3, 1, 2)).contiguous()}
        return Pair(model, description, pixels, theirs)

    return make


def texts(config: Any) -> Callable[[int], Pair]:
    def make(batch: int) -> Pair:
        model = transformers.AutoModelForSequenceClassification.from_config(config)
        description = config.to_dict()
        rng = np.random.default_rng(0)
        lengths = rng.integers(TOKENS // 2, TOKENS + 1, batch)
        mask = (np.arange(TOKENS)[None] < lengths[:, None]).astype(np.int32)
        ids = rng.integers(0, config.vocab_size, mask.shape).astype(np.int32)
        inputs = {"input_ids": ids, "attention_mask": mask}
        theirs = {name: torch.tensor(x, dtype=torch.int64) for name, x in inputs.items()}
        return Pair(model, description, inputs, theirs)

    return make


BERT_SMALL: dict[str, Any] = {
    **{"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8},
    **{"intermediate_size": 2048, "num_labels": CLASSES},
    **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
DISTILBERT: dict[str, Any] = {
    **{"num_labels": CLASSES, "dropout": 0.0, "attention_dropout": 0.0},
    **{"seq_classif_dropout": 0.0},
}
MODELS: Mapping[str, Callable[[int], Pair]] = {
    "vit_s": images("vit_small_patch16_224"),
    "resnet50": images("resnet50"),
    "mixer_b": images("mixer_b16_224"),
    "bit_50x1": images("resnetv2_50x1_bit"),
    "mobilenet_v4_s": images("mobilenetv4_conv_small"),
    "bert_small": texts(transformers.BertConfig(**BERT_SMALL)),
    "distilbert": texts(transformers.DistilBertConfig(**DISTILBERT)),
}
"""Dropout is off: its masks are made by generators that have nothing in common."""


def our_step(pair: Pair, labels: np.ndarray, dtype: str) -> Callable[[], float]:
    """A compiled forward and backward pass of ours, with the original's weights."""
    form = next(form for form in FORMATS.values() if form.recognises(pair.description))
    student = make_student(form.student, CLASSES, _options(form, pair, dtype))
    inputs = jax.tree.map(jnp.asarray, pair.inputs)
    variables = jax.jit(student.init)(jax.random.key(0), inputs)
    variables = load_public(tensors_of(pair.original), form, variables, "original", with_head=True)
    variables, targets = jax.device_put((variables, labels))

    def loss(params, variables, inputs):
        output, _ = student.apply({**variables, "params": params}, inputs, True, {})
        losses = optax.softmax_cross_entropy_with_integer_labels(output.logits, targets)
        return jnp.mean(losses)

    step = jax.jit(jax.value_and_grad(loss))

    def run() -> float:
        value, gradient = jax.block_until_ready(step(variables["params"], variables, inputs))
        del gradient
        return float(value)

    return run


def _options(form: Format, pair: Pair, dtype: str) -> dict[str, Any]:
    dropout = {"dropout": 0.0} if form.student == "bert" else {}
    return form.options(pair.description) | dropout | {"dtype": dtype}


def their_step(pair: Pair, labels: np.ndarray, device: str) -> Callable[[], float]:
    """The same of the original."""
    model = pair.original.to(device).train()
    inputs = {name: x.to(device) for name, x in pair.theirs.items()}
    targets = torch.tensor(labels, dtype=torch.int64, device=device)

    def run() -> float:
        model.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            output = model(**inputs)
            logits = output if isinstance(output, torch.Tensor) else output.logits
            loss = torch.nn.functional.cross_entropy(logits.float(), targets)
        loss.backward()
        return float(loss.detach())  # waits for the device

    return run


def measure(steps: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each step in every round; the two change places from round to round."""
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(repeats):
        for name in list(steps) if number % 2 == 0 else list(steps)[::-1]:
            began = time.perf_counter()
            steps[name]()
            times[name].append(time.perf_counter() - began)
    return times


def report(name: str, batch: int, repeats: int) -> None:
    gpu = torch.cuda.is_available() and jax.default_backend() == "gpu"
    pair = MODELS[name](batch)
    labels = np.random.default_rng(1).integers(0, CLASSES, batch).astype(np.int32)
    ours = our_step(pair, labels, "bfloat16" if gpu else "float32")
    theirs = their_step(pair, labels, "cuda" if gpu else "cpu")
    losses = ours(), theirs()
    times = measure({"ours": ours, "torch": theirs}, repeats)
    ratios = [ours / theirs for ours, theirs in zip(times["ours"], times["torch"], strict=True)]
    ratio, rates = statistics.median(ratios), {}
    for side, seconds in times.items():
        rates[side] = batch / statistics.median(seconds)
    goal = "" if gpu else f"  {'met' if ratio <= GOAL else 'MISSED'}"
    print(
        f"{name:16}{rates['ours']:12.1f}{rates['torch']:12.1f}{ratio:10.3f}{goal}"
        f"   losses {losses[0]:.5f} {losses[1]:.5f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    flags = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    print(f"{describe_machine()}, torch {torch.__version__}; batch {flags.batch}")
    print(f"{'examples/s':16}{'ours':>12}{'torch':>12}{'time x':>10}  goal {GOAL} on a CPU")
    for name in flags.models.split(","):
        report(name, flags.batch, flags.repeats)


if __name__ == "__main__":
    main()
