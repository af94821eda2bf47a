"""From a Hugging Face model's inputs to pooled features, on one device."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from aft_jax.errors import ConfigError
from aft_jax.teachers.pooling import pool

_CLASS_TOKENS = ("cls_token", "class_embedding")


class Plan(NamedTuple):
    """Which of a model's states become features.

    Attributes:
        pooling: a key of `aft_jax.teachers.huggingface_families.POOLINGS`.
        layers: positions among the model's hidden_states, of which 0 are the embeddings; () for
            its output.
        dual: whether it has an image and a text tower.
        encoder_decoder: whether it has an encoder and a decoder.
    """

    pooling: str
    layers: tuple[int, ...]
    dual: bool
    encoder_decoder: bool


def check_pooling(model: Any, plan: Plan) -> None:
    """Refuses what only the loaded model shows to be impossible.

    Args:
        model: the model.
        plan: what is asked of it.

    Raises:
        ConfigError: an image model without class token is to pool it, or the towers of a model
            are no pair of embeddings.
    """
    if plan.dual and not hasattr(model, "get_text_features"):
        raise ConfigError(
            "a model with an image and a text tower embeds both; "
            f"{type(model).__name__} does not. Use its vision or its text model alone."
        )
    vision = model.vision_model if plan.dual else model
    if plan.pooling != "cls" or vision.main_input_name != "pixel_values":
        return
    names = [name.split(".")[-1] for name, _ in vision.named_parameters()]
    if not any(name in _CLASS_TOKENS for name in names):
        raise ConfigError(
            "config.teachers.*.pooling of a vision model without class token is one of mean, "
            "pooler, model; got 'cls'."
        )


def features_of(model: Any, inputs: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """Pooled features of one share of a batch.

    Args:
        model: the model, on the device of its inputs.
        inputs: "pixel_values" and what the tokenizer gives, with "mask", 1 where a token counts.
        plan: which states, and how.

    Returns:
        "image", "text" or both -> [b, t] float32.

    Raises:
        ConfigError: the model has no such pooling or layers.
    """
    features = {}
    if "pixel_values" in inputs:
        features["image"] = _image_features(model, inputs["pixel_values"], plan)
    if "input_ids" in inputs:
        text = {name: array for name, array in inputs.items() if name != "pixel_values"}
        features["text"] = _text_features(model, text, plan)
    return features


def _image_features(model: Any, pixels: Any, plan: Plan) -> Any:
    vision = model.vision_model if plan.dual else model
    arguments = {"pixel_values": pixels.to(next(model.parameters()).dtype)}
    if plan.dual and plan.pooling == "model":
        return _projected(model.get_image_features(**arguments))
    output = vision(**arguments, **_hidden(plan))
    return _pooled(output, plan, None, _patches(pixels, vision.config))


def _text_features(model: Any, inputs: dict[str, Any], plan: Plan) -> Any:
    mask = inputs.pop("mask")
    if plan.dual and plan.pooling == "model":
        return _projected(model.get_text_features(**inputs))
    if plan.encoder_decoder and plan.pooling == "model":
        output = model(**inputs, decoder_input_ids=_shifted(inputs["input_ids"], model.config))
        return pool(output.last_hidden_state, "last_token", mask)
    text = model.text_model if plan.dual else model
    return _pooled(text(**inputs, **_hidden(plan)), plan, mask, 0)


def _hidden(plan: Plan) -> dict[str, bool]:
    return {"output_hidden_states": True} if plan.layers else {}


def _shifted(tokens: Any, description: Any) -> Any:
    """The decoder's input: the start token, then the text without its last token."""
    shifted = tokens.roll(1, 1)
    shifted[:, 0] = description.decoder_start_token_id
    return shifted


def _projected(output: Any) -> Any:
    # Some models return the embeddings themselves, others a record with them as pooler_output.
    return getattr(output, "pooler_output", output)


def _patches(pixels: Any, description: Any) -> int:
    """How many tokens stand for a patch of the image; 0 where the model has no fixed patches."""
    size = getattr(description, "patch_size", None)
    if not size:
        return 0
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return (pixels.shape[2] // height) * (pixels.shape[3] // width)


def _pooled(output: Any, plan: Plan, mask: Any, patches: int) -> Any:
    if plan.pooling in ("pooler", "model"):
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            raise ConfigError(
                "config.teachers.*.pooling of a model without pooler is one of cls, mean, "
                f"last_token; got {plan.pooling!r}."
            )
        return pooled.flatten(1)
    import torch

    states = [output.last_hidden_state]
    if plan.layers:
        states = _layers(output.hidden_states, plan.layers)
    pooled = [pool(state, plan.pooling, mask, _prefix(state, patches)) for state in states]
    return torch.cat(pooled, 1)


def _layers(hidden: Any, layers: tuple[int, ...]) -> list[Any]:
    if not all(-len(hidden) <= layer < len(hidden) for layer in layers):
        raise ConfigError(
            f"config.teachers.*.layers of this model are between {-len(hidden)} and "
            f"{len(hidden) - 1}, where 0 are the embeddings and -1 is the last; got {layers}."
        )
    return [hidden[layer] for layer in layers]


def _prefix(states: Any, patches: int) -> int:
    """Class token and registers: the tokens before those of the patches."""
    # Models that merge patches layer by layer have fewer tokens than patches, and no class token.
    return max(0, states.shape[1] - patches) if patches else 0
