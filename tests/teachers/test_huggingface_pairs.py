"""Models of two halves: an image and a text tower, or an encoder and a decoder."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from aft_jax.teachers import make_teacher
from tests.teachers.raw_outputs import (
    cls,
    expected,
    inputs_of,
    last,
    patches_mean,
    pooler,
    tokens_mean,
)


@pytest.mark.parametrize("tower", ["", "both"])
def test_both_towers_of_clip(tower, checkpoint, configure, raw, images, texts):
    examples = [image | text for image, text in zip(images, texts, strict=True)]
    teacher = make_teacher(configure("huggingface", checkpoint("clip"), tower=tower))
    features = teacher.features(teacher.prepare(examples))
    model = raw("clip", transformers.CLIPModel)
    with torch.inference_mode():
        rows = [
            model(
                **inputs_of("clip", checkpoint, image),
                **inputs_of("clip", checkpoint, text),
            )
            for image, text in zip(images, texts, strict=True)
        ]
    for part, name in {"image": "image_embeds", "text": "text_embeds"}.items():
        wanted = torch.cat([getattr(row, name) for row in rows]).numpy()
        found = features[part] / np.linalg.norm(features[part], axis=1, keepdims=True)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert features.keys() == {"image", "text"}


@pytest.mark.parametrize(
    ("tower", "pooling", "pooled"),
    [
        ("image", "pooler", pooler),
        ("image", "cls", cls),
        ("image", "mean", patches_mean),
        ("text", "pooler", pooler),
        ("text", "last_token", last),
        ("text", "mean", tokens_mean),
    ],
)
def test_one_tower_of_clip(tower, pooling, pooled, checkpoint, configure, raw, images, texts):
    model = raw("clip", transformers.CLIPModel)
    model, examples = {
        "image": (model.vision_model, images),
        "text": (model.text_model, texts),
    }[tower]
    config = configure("huggingface", checkpoint("clip"), tower=tower, pooling=pooling)
    teacher = make_teacher(config)
    features = teacher.features(teacher.prepare(examples))
    wanted = expected("clip", checkpoint, model, examples, pooled)
    assert features.keys() == {tower}
    np.testing.assert_allclose(features[tower], wanted, atol=1e-5)


def test_a_model_with_two_towers_takes_what_the_examples_have(checkpoint, configure, images, texts):
    teacher = make_teacher(configure("huggingface", checkpoint("clip")))
    assert teacher.features(teacher.prepare(images)).keys() == {"image"}
    assert teacher.features(teacher.prepare(texts)).keys() == {"text"}


def test_siglip_reads_texts_at_full_length_without_mask(checkpoint, configure, raw, texts):
    model = raw("siglip", transformers.SiglipModel)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint("siglip"))
    ids = [tokenizer(text["text"])["input_ids"] for text in texts]
    with torch.inference_mode():
        padded = torch.tensor([row + [0] * (24 - len(row)) for row in ids])
        output = model.text_model(input_ids=padded)
    for pooling, wanted in {
        "model": output.pooler_output,
        "mean": torch.stack(
            [
                state[: len(row)].mean(0)
                for state, row in zip(output.last_hidden_state, ids, strict=True)
            ]
        ),
    }.items():
        config = configure("huggingface", checkpoint("siglip"), tower="text", pooling=pooling)
        teacher = make_teacher(config)
        features = teacher.features(teacher.prepare(texts))["text"]
        np.testing.assert_allclose(features, wanted.numpy(), atol=1e-5)


def test_siglip_pools_images_by_attention(checkpoint, configure, raw, images):
    teacher = make_teacher(configure("huggingface", checkpoint("siglip"), tower="image"))
    features = teacher.features(teacher.prepare(images))["image"]
    vision = raw("siglip", transformers.SiglipModel).vision_model
    wanted = expected("siglip", checkpoint, vision, images, pooler)
    np.testing.assert_allclose(features, wanted, atol=1e-5)


@pytest.mark.parametrize(("pooling", "pooled"), [("mean", tokens_mean), ("last_token", last)])
def test_the_encoder_of_t5(pooling, pooled, checkpoint, configure, raw, texts):
    teacher = make_teacher(configure("huggingface", checkpoint("t5"), pooling=pooling))
    wanted = expected("t5", checkpoint, raw("t5").encoder, texts, pooled)
    features = teacher.features(teacher.prepare(texts))["pooled"]
    np.testing.assert_allclose(features, wanted, atol=1e-5)
    assert teacher.parameters == sum(p.numel() for p in raw("t5").encoder.parameters())


def test_an_encoder_saved_alone(tmp_path, checkpoint, configure, raw, texts):
    transformers.T5EncoderModel.from_pretrained(checkpoint("t5")).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(checkpoint("t5")).save_pretrained(tmp_path)
    teacher = make_teacher(configure("huggingface", tmp_path))
    wanted = expected("t5", checkpoint, raw("t5").encoder, texts, tokens_mean)
    features = teacher.features(teacher.prepare(texts))["pooled"]
    np.testing.assert_allclose(features, wanted, atol=1e-5)


def test_t5_is_pooled_as_its_own_classifier_does(checkpoint, configure, texts):
    """The official code reads it so: what goes into the classification head."""
    config = transformers.T5Config.from_pretrained(checkpoint("t5"), eos_token_id=1)
    whole: Any = transformers.T5ForSequenceClassification(config).eval()
    whole.transformer.load_state_dict(
        transformers.T5Model.from_pretrained(checkpoint("t5")).state_dict()
    )
    whole.classification_head = torch.nn.Identity()
    wanted = expected("t5", checkpoint, whole, texts, lambda output: output.logits)
    teacher = make_teacher(configure("huggingface", checkpoint("t5")))
    features = teacher.features(teacher.prepare(texts))["pooled"]
    np.testing.assert_allclose(features, wanted, atol=1e-5)


def test_an_encoder_decoder_without_a_row(checkpoint, configure, raw, texts):
    """Averaged over the encoder; as "model" the decoder's last state, as BART's classifier does."""
    model = raw("bart")
    with torch.inference_mode():
        ids = [inputs_of("bart", checkpoint, text)["input_ids"] for text in texts]
        decoded = [
            model(input_ids=row, decoder_input_ids=torch.cat([row[:, -1:], row[:, :-1]], 1))
            for row in ids
        ]
    for pooling, wanted in {
        "": expected("bart", checkpoint, model.get_encoder(), texts, tokens_mean),
        "model": torch.cat([last(output) for output in decoded]).numpy(),
    }.items():
        teacher = make_teacher(configure("huggingface", checkpoint("bart"), pooling=pooling))
        features = teacher.features(teacher.prepare(texts))["pooled"]
        np.testing.assert_allclose(features, wanted, atol=1e-5)
