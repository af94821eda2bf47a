"""Features of every architecture, computed one example at a time from the raw model outputs."""

import numpy as np
import pytest
import torch

from aft_jax.teachers import make_teacher
from tests.teachers import checkpoints
from tests.teachers.raw_outputs import (
    PROCESSORS,
    cls,
    expected,
    last,
    patches_mean,
    places_mean,
    pooler,
    tokens_mean,
)

ALONE = [name for name in checkpoints.MAKERS if name not in ("clip", "siglip")]
CASES = [
    *[(name, "cls", cls) for name in ("vit", "dinov2", "bert", "distilbert", "roberta")],
    *[(name, "mean", patches_mean) for name in ("vit", "dinov2")],
    *[(name, "mean", tokens_mean) for name in ("bert", "distilbert", "roberta", "gpt2", "llama")],
    *[(name, "mean", places_mean) for name in ("bit", "resnet", "convnext")],
    *[(name, "last_token", last) for name in ("bert", "roberta", "gpt2", "llama")],
    *[(name, "pooler", pooler) for name in ("vit", "bit", "resnet", "convnext", "bert")],
    *[(name, "model", pooler) for name in ("dinov2", "convnext", "bert")],
]
# What the official code takes of each, see the docstring of huggingface_families.
DEFAULTS = {
    **{"vit": cls, "dinov2": cls, "bit": pooler, "resnet": pooler, "convnext": pooler},
    **{"bert": pooler, "distilbert": cls, "roberta": cls, "gpt2": last, "llama": last},
}


@pytest.fixture
def examples(images, texts):
    return {name: images if name in PROCESSORS else texts for name in checkpoints.MAKERS}


@pytest.mark.parametrize(("name", "pooling", "pooled"), CASES)
def test_pooled_states(name, pooling, pooled, checkpoint, configure, raw, examples):
    """In one padded batch as alone."""
    teacher = make_teacher(configure("huggingface", checkpoint(name), pooling=pooling))
    features = teacher.features(teacher.prepare(examples[name]))
    wanted = expected(name, checkpoint, raw(name), examples[name], pooled)
    assert features.keys() == {"pooled"}
    assert features["pooled"].dtype == np.float32
    np.testing.assert_allclose(features["pooled"], wanted, atol=1e-5)
    assert teacher.identity.pooling == pooling


@pytest.mark.parametrize(("name", "pooled"), DEFAULTS.items())
def test_the_default_is_the_official_choice(name, pooled, checkpoint, configure, raw, examples):
    teacher = make_teacher(configure("huggingface", checkpoint(name)))
    features = teacher.features(teacher.prepare(examples[name]))["pooled"]
    wanted = expected(name, checkpoint, raw(name), examples[name], pooled)
    np.testing.assert_allclose(features, wanted, atol=1e-5)
    assert teacher.parameters == sum(p.numel() for p in raw(name).parameters())


@pytest.mark.parametrize(
    ("name", "layers", "pooling", "pooled"),
    [
        ("vit", (1,), "", lambda hidden: hidden[1][:, 0]),
        ("bert", (0, -1), "", lambda hidden: torch.cat([hidden[0], hidden[2]], 2)[:, 0]),
        ("gpt2", (1, 2), "mean", lambda hidden: torch.cat([hidden[1], hidden[2]], 2).mean(1)),
        ("t5", (1,), "", lambda hidden: hidden[1].mean(1)),
        ("resnet", (-2,), "", lambda hidden: hidden[-2].mean((2, 3))),
    ],
)
def test_hidden_layers(name, layers, pooling, pooled, checkpoint, configure, raw, examples):
    config = configure("huggingface", checkpoint(name), layers=layers, pooling=pooling)
    teacher = make_teacher(config)
    features = teacher.features(teacher.prepare(examples[name]))["pooled"]
    model = raw(name).encoder if name == "t5" else raw(name)
    wanted = expected(
        *(name, checkpoint, model, examples[name]),
        lambda output: pooled(output.hidden_states),
        output_hidden_states=True,
    )
    np.testing.assert_allclose(features, wanted, atol=1e-5)
    assert f"of layers {', '.join(map(str, layers))}" in teacher.identity.pooling


def test_a_model_type_without_a_row_is_averaged(checkpoint, configure, raw, texts):
    teacher = make_teacher(configure("huggingface", checkpoint("albert")))
    features = teacher.features(teacher.prepare(texts))["pooled"]
    wanted = expected("albert", checkpoint, raw("albert"), texts, tokens_mean)
    np.testing.assert_allclose(features, wanted, atol=1e-5)


def test_registers_are_no_patches(checkpoint, configure, raw, images):
    name = "dinov2_with_registers"
    teacher = make_teacher(configure("huggingface", checkpoint(name), pooling="mean"))
    features = teacher.features(teacher.prepare(images))["pooled"]
    with torch.inference_mode():
        processor = checkpoints.processor("Bit")
        pixels = [
            processor(row["image"], return_tensors="pt", input_data_format="channels_last")
            for row in images
        ]
        states = [raw(name)(**row).last_hidden_state for row in pixels]
    assert states[0].shape[1] == 1 + 3 + 16
    wanted = torch.cat([state[:, 4:].mean(1) for state in states]).numpy()
    np.testing.assert_allclose(features, wanted, atol=1e-5)


@pytest.mark.parametrize("name", ALONE)
def test_a_row_does_not_depend_on_its_batch(name, checkpoint, configure, examples):
    teacher = make_teacher(configure("huggingface", checkpoint(name)))
    together = teacher.features(teacher.prepare(examples[name]))["pooled"]
    alone = [teacher.features(teacher.prepare([one]))["pooled"] for one in examples[name]]
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-5)


@pytest.mark.parametrize("name", ALONE)
def test_bfloat16_is_close(name, checkpoint, configure, examples):
    both = []
    for dtype in ("float32", "bfloat16"):
        teacher = make_teacher(configure("huggingface", checkpoint(name), dtype=dtype))
        both.append(teacher.features(teacher.prepare(examples[name]))["pooled"])
    assert both[1].dtype == np.float32
    assert not np.array_equal(both[0], both[1])
    np.testing.assert_allclose(both[1], both[0], atol=0.05 * np.abs(both[0]).max())
    assert teacher.identity.pooling.endswith(" in bfloat16")


@pytest.mark.parametrize("devices", [2, 3, 8])
def test_several_devices_share_the_rows(devices, checkpoint, configure, texts, monkeypatch):
    config = configure("huggingface", checkpoint("bert"))
    alone = make_teacher(config)
    wanted = alone.features(alone.prepare(texts))["pooled"]
    monkeypatch.setattr(
        "aft_jax.teachers.torch_replicas.visible_devices", lambda: ["cpu"] * devices
    )
    teacher = make_teacher(config)
    features = teacher.features(teacher.prepare(texts))["pooled"]
    np.testing.assert_allclose(features, wanted, atol=1e-6)
    assert teacher.parameters == alone.parameters
