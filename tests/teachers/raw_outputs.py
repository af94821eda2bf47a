"""What the raw models give for one example at a time: what our features are measured by."""

import torch
import transformers

from tests.teachers import checkpoints

PROCESSORS = {
    "vit": "ViT",
    "dinov2": "Bit",
    "clip": "CLIP",
    "siglip": "Siglip",
    "bit": "Bit",
    "resnet": "ConvNext",
    "convnext": "ConvNext",
}


def cls(output):
    return output.last_hidden_state[:, 0]


def tokens_mean(output):
    return output.last_hidden_state.mean(1)


def patches_mean(output):
    return output.last_hidden_state[:, 1:].mean(1)


def last(output):
    return output.last_hidden_state[:, -1]


def places_mean(output):
    return output.last_hidden_state.mean((2, 3))


def pooler(output):
    return output.pooler_output.reshape(1, -1)


def inputs_of(name, checkpoint, example):
    """What the raw model reads of one example alone, so that there is no padding."""
    if "image" in example:
        processor = checkpoints.processor(PROCESSORS[name])
        pixels = processor(example["image"], return_tensors="pt", input_data_format="channels_last")
        return {"pixel_values": pixels["pixel_values"]}
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint(name))
    return {"input_ids": torch.tensor([tokenizer(example["text"])["input_ids"]])}


@torch.inference_mode()
def expected(name, checkpoint, model, examples, pooled, **options):
    rows = [
        pooled(model(**inputs_of(name, checkpoint, example), **options)) for example in examples
    ]
    return torch.cat(rows).numpy()
