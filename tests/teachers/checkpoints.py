"""Tiny checkpoints of public architectures: their config, random weights, own preprocessing."""

import json
import pathlib
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from aft_jax.teachers.huggingface_inputs import hide_broken_torchvision

hide_broken_torchvision()

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "to", "red", "house"]
SIDE = 16  # pixels of every image model
SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48}
LAYERS: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2}
PATCHES: dict[str, Any] = {"image_size": SIDE, "patch_size": 4}
MAPS: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 1]}
TEXT: dict[str, Any] = {"vocab_size": 20, "max_position_embeddings": 24}

T5: dict[str, Any] = {
    **{"vocab_size": 20, "d_model": 32, "d_kv": 16, "d_ff": 48},
    **{"num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0},
}
GPT2: dict[str, Any] = {
    **{"vocab_size": 20, "n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 2},
    **{"bos_token_id": 0, "eos_token_id": 0},
}

BART: dict[str, Any] = {
    **{"vocab_size": 20, "max_position_embeddings": 24, "d_model": 32},
    **{"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_start_token_id": 2},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "forced_eos_token_id": 2},
}


def tokenizer(
    start: str | None = "[CLS]",
    end: str | None = "[SEP]",
    pad: str | None = "[PAD]",
    **options: Any,
) -> Any:
    """A word-level tokenizer with the special tokens of a family of models."""
    special = dict.fromkeys(token for token in (pad, start, end, "[UNK]") if token)
    vocabulary = {token: index for index, token in enumerate([*special, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    frame = [token for token in (start, "$A", end) if token]
    words.post_processor = processors.TemplateProcessing(
        single=" ".join(frame),
        special_tokens=[(token, vocabulary[token]) for token in frame if token != "$A"],
    )
    names = {"pad_token": pad, "eos_token": end, "cls_token": start, "unk_token": "[UNK]"}
    options = {key: value for key, value in (names | options).items() if value}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **options)


def processor(name: str) -> Any:
    """An image processor of a family, at the models' size."""
    square = {"height": SIDE, "width": SIDE}
    if name == "ViT":
        return transformers.ViTImageProcessorPil(size=square)
    if name == "Siglip":
        return transformers.SiglipImageProcessorPil(size=square)
    if name == "ConvNext":
        return transformers.ConvNextImageProcessorPil(size={"shortest_edge": SIDE})
    if name == "CLIP":
        return transformers.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=square)
    return transformers.BitImageProcessorPil(size={"shortest_edge": 18}, crop_size=square)


def _vit() -> list[Any]:
    config = transformers.ViTConfig(**SMALL, **LAYERS, **PATCHES)
    return [transformers.ViTModel(config), processor("ViT")]


def _dinov2() -> list[Any]:
    config = transformers.Dinov2Config(hidden_size=32, mlp_ratio=2, **LAYERS, **PATCHES)
    return [transformers.Dinov2Model(config), processor("Bit")]


def _clip() -> list[Any]:
    # Its text is pooled at the end token, [SEP].
    text = SMALL | LAYERS | TEXT | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = transformers.CLIPConfig(
        text_config=text, vision_config=SMALL | LAYERS | PATCHES, projection_dim=24
    )
    return [transformers.CLIPModel(config), processor("CLIP"), tokenizer()]


def _siglip() -> list[Any]:
    text = SMALL | LAYERS | TEXT | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.SiglipConfig(text_config=text, vision_config=SMALL | LAYERS | PATCHES)
    words = tokenizer(start=None, model_max_length=24, model_input_names=["input_ids"])
    return [transformers.SiglipModel(config), processor("Siglip"), words]


def _bit() -> list[Any]:
    config = transformers.BitConfig(embedding_size=8, num_groups=4, **MAPS)
    return [transformers.BitModel(config), processor("Bit")]


def _resnet() -> list[Any]:
    config = transformers.ResNetConfig(embedding_size=8, layer_type="basic", **MAPS)
    return [transformers.ResNetModel(config), processor("ConvNext")]


def _convnext() -> list[Any]:
    config = transformers.ConvNextConfig(patch_size=2, num_stages=2, **MAPS)
    return [transformers.ConvNextModel(config), processor("ConvNext")]


def _bert() -> list[Any]:
    config = transformers.BertConfig(**SMALL, **LAYERS, **TEXT)
    return [transformers.BertModel(config), tokenizer()]


def _distilbert() -> list[Any]:
    config = transformers.DistilBertConfig(dim=32, hidden_dim=48, n_layers=2, n_heads=2, **TEXT)
    return [transformers.DistilBertModel(config), tokenizer()]


def _roberta() -> list[Any]:
    # Its positions start after the padding token's id, here 0: one more than the length.
    config = transformers.RobertaConfig(**SMALL, **LAYERS, **TEXT, pad_token_id=0)
    return [transformers.RobertaModel(config), tokenizer("<s>", "</s>", "<pad>")]


def _t5() -> list[Any]:
    return [transformers.T5Model(transformers.T5Config(**T5)), tokenizer(None, "</s>", "<pad>")]


def _gpt2() -> list[Any]:
    words = tokenizer(None, None, None, eos_token="[UNK]")
    return [transformers.GPT2Model(transformers.GPT2Config(**GPT2)), words]


def _llama() -> list[Any]:
    config = transformers.LlamaConfig(
        **SMALL, **LAYERS, **TEXT, num_key_value_heads=2, bos_token_id=0, eos_token_id=0
    )
    words = tokenizer("<s>", None, None, eos_token="<s>", padding_side="left")
    return [transformers.LlamaModel(config), words]


def _albert() -> list[Any]:
    config = transformers.AlbertConfig(**SMALL, **LAYERS, **TEXT, embedding_size=16)
    return [transformers.AlbertModel(config), tokenizer()]


def _bart() -> list[Any]:
    return [transformers.BartModel(transformers.BartConfig(**BART)), tokenizer("<s>", "</s>")]


def _registers() -> list[Any]:
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=32, mlp_ratio=2, num_register_tokens=3, **LAYERS, **PATCHES
    )
    return [transformers.Dinov2WithRegistersModel(config), processor("Bit")]


MAKERS = {
    "vit": _vit,
    "dinov2": _dinov2,
    "clip": _clip,
    "siglip": _siglip,
    "bit": _bit,
    "resnet": _resnet,
    "convnext": _convnext,
    "bert": _bert,
    "distilbert": _distilbert,
    "roberta": _roberta,
    "t5": _t5,
    "gpt2": _gpt2,
    "llama": _llama,
}
# Model types that need more than their row in our table, or have none.
OTHERS = {"albert": _albert, "bart": _bart, "dinov2_with_registers": _registers}


def save(name: str, directory: pathlib.Path) -> None:
    """Writes the checkpoint of one architecture, its weights always the same."""
    torch.manual_seed(sum(map(ord, name)))
    parts = (MAKERS | OTHERS)[name]()
    with torch.no_grad():  # initial weights are small: features that hardly differ prove little
        for parameter in parts[0].parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for buffer_name, buffer in parts[0].named_buffers():
            if "running" in buffer_name:
                buffer.add_(torch.rand_like(buffer))
    for part in parts:
        part.save_pretrained(directory)


def edit(path: pathlib.Path, **changes: Any) -> None:
    """Changes fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
