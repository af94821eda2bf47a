"""How the checkpoints of each architecture are read: what of, and pooled by what.

The default is what the official code of the paper does (amazon-science/adaptive-feature-transfer,
`models.py`): `HFFeatureExtractor` for text, `CLIP` for pairs, and for images `TimmWrapper`, whose
timm models have the same pooling under another roof. Two rows differ, and the reason stands there.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from aft_jax.errors import ConfigError

POOLINGS = {
    "cls": "the first token",
    "mean": "the mean over tokens without padding or class token, or over all places of a map",
    "last_token": "the last token that is no padding",
    "pooler": "the model's pooler_output",
    "model": "what the model itself calls pooled: the embeddings of a model with two towers, the "
    "decoder's state at the last token of an encoder-decoder, else its pooler_output",
}


class Architecture(NamedTuple):
    """What can be read of a model type.

    Attributes:
        reads: "image", "text" or both.
        pooling: the default.
        hidden: the default where the config names hidden layers, which no pooler has seen.
        poolings: those that make sense.
        full_length: whether texts are padded to the full length and read without a mask, because
            the model was trained so.
    """

    reads: tuple[str, ...]
    pooling: str
    hidden: str
    poolings: tuple[str, ...]
    full_length: bool = False


_IMAGE, _TEXT, _PAIR = ("image",), ("text",), ("image", "text")
_CLASS_TOKEN = ("cls", "mean", "pooler", "model")
_MAP = ("mean", "pooler", "model")
_SENTENCE = ("cls", "mean", "last_token")
_CAUSAL = ("last_token", "mean")

# timm's vision transformers pool the class token after the last norm.
_VIT = Architecture(_IMAGE, "cls", "cls", _CLASS_TOKEN)
# timm's convolutional networks pool the average, with the norm that belongs to it.
_CONVOLUTION = Architecture(_IMAGE, "pooler", "mean", _MAP)
# RobertaForSequenceClassification: hidden state of <s>, before the classifier's dense layer.
_ROBERTA = Architecture(_TEXT, "cls", "cls", (*_SENTENCE, "pooler", "model"))
# GPT2ForSequenceClassification, LlamaForSequenceClassification: the last token.
_DECODER = Architecture(_TEXT, "last_token", "last_token", _CAUSAL)
# T5ForSequenceClassification: the decoder, fed the text shifted right, at the text's last token.
_T5 = Architecture(_TEXT, "model", "mean", ("mean", "last_token", "model"))
# clip.encode_image and clip.encode_text: the projected embeddings.
_CLIP = Architecture(_PAIR, "model", "mean", tuple(POOLINGS))
# timm's SigLIP towers pool by attention; its texts are trained at full length without a mask.
_SIGLIP = ("mean", "pooler", "model")

ARCHITECTURES: Mapping[str, Architecture] = {
    "vit": _VIT,
    "deit": _VIT,
    "dinov2": _VIT,
    "dinov2_with_registers": _VIT,
    "swin": _CONVOLUTION,
    "bit": _CONVOLUTION,
    "resnet": _CONVOLUTION,
    "regnet": _CONVOLUTION,
    "convnext": _CONVOLUTION,
    "convnextv2": _CONVOLUTION,
    "clip": _CLIP,
    "clip_vision_model": Architecture(_IMAGE, "pooler", "cls", _CLASS_TOKEN),
    "clip_text_model": Architecture(_TEXT, "pooler", "mean", (*_SENTENCE, "pooler", "model")),
    "siglip": Architecture(_PAIR, "model", "mean", _SIGLIP, full_length=True),
    "siglip_vision_model": Architecture(_IMAGE, "pooler", "mean", _SIGLIP),
    "siglip_text_model": Architecture(_TEXT, "pooler", "mean", _SIGLIP, full_length=True),
    # BertForSequenceClassification: its pooler.
    "bert": Architecture(_TEXT, "pooler", "cls", (*_SENTENCE, "pooler", "model")),
    # Not DistilBertForSequenceClassification's pre_classifier, which is random in a checkpoint
    # that was never fine-tuned: the token it reads.
    "distilbert": Architecture(_TEXT, "cls", "cls", _SENTENCE),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "t5": _T5,
    "mt5": _T5,
    "umt5": _T5,
    "gpt2": _DECODER,
    "gpt_neox": _DECODER,
    "llama": _DECODER,
    "mistral": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
}
"""`model_type` in a checkpoint's config.json -> how it is read; others pool the mean by default."""


def architecture_of(description: Mapping[str, Any], reads: tuple[str, ...]) -> Architecture:
    """How a checkpoint is read.

    Args:
        description: its config.json.
        reads: "image", "text" or both, by the preprocessing files beside it; decides for model
            types that the table lacks.

    Returns:
        The table's row; an encoder that was saved without its decoder pools the mean.
    """
    row = ARCHITECTURES.get(description.get("model_type", ""))
    if row is None:
        return Architecture(reads, "mean", "mean", tuple(POOLINGS))
    if is_encoder_alone(description):
        return row._replace(pooling="mean", poolings=("mean", "last_token"))
    return row


def is_encoder_alone(description: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is the encoder of an encoder-decoder, saved without the decoder."""
    return any("EncoderModel" in name for name in description.get("architectures") or ())


def choose_pooling(architecture: Architecture, pooling: str, layers: tuple[int, ...]) -> str:
    """The pooling that a config means.

    Args:
        architecture: the row of the model.
        pooling: config.pooling; "" for the default.
        layers: config.layers; () for the model's output.

    Returns:
        A key of `POOLINGS`.

    Raises:
        ConfigError: this model has no such pooling, or hidden layers have none.
    """
    valid = architecture.poolings
    if layers:
        valid = tuple(name for name in valid if name not in ("pooler", "model"))
    chosen = pooling or (architecture.hidden if layers else architecture.pooling)
    if chosen not in valid:
        where = " with config.teachers.*.layers" if layers else ""
        raise ConfigError(
            f"config.teachers.*.pooling of this model{where} is one of "
            f"{', '.join(valid)}; got {chosen!r}."
        )
    return chosen
