"""Examples as a Hugging Face model reads them: its own published processor and tokenizer."""

import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aft_jax.config import TeacherConfig
from aft_jax.data import Example
from aft_jax.errors import ConfigError, DataError, UsageError
from aft_jax.hub import Checkpoint, processor_settings, tokenizer_files

_UNLIMITED = 10**6
"""Above this a tokenizer's model_max_length means that nobody set it; it is 1e30 then."""

_FALLBACK_LENGTH = 512
_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert")
"""Model types whose positions start after the padding token's id, so that they have fewer."""


def hide_broken_torchvision() -> None:
    """Lets transformers see a torchvision that cannot be imported as the absent one it is.

    A torchvision of another build than torch's fails at import, and with it, needlessly, all of
    transformers' image processing.
    """
    if sys.modules.get("torchvision", ...) is not ... or not importlib.util.find_spec(
        "torchvision"
    ):
        return
    try:
        importlib.import_module("torchvision")
    # It fails in torch's C++ registry, with errors of any kind.
    except Exception:
        sys.modules["torchvision"] = None  # pyright: ignore[reportArgumentType] (means: absent)
        from transformers.utils import import_utils

        import_utils.is_torchvision_available.cache_clear()


def image_reader(
    checkpoint: Checkpoint, trust_remote_code: bool
) -> Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]:
    """The checkpoint's image processor on Pillow and NumPy.

    Args:
        checkpoint: the checkpoint.
        trust_remote_code: whether its code may run.

    Returns:
        b images, uint8 [h, w, 3] each -> {"pixel_values": [b, 3, h, w] float32}.

    Raises:
        UsageError: it has no processor, or one that does not load.
    """
    if not processor_settings(checkpoint):
        raise UsageError(
            "a vision model brings the preprocessing it was trained with; "
            f"{checkpoint.directory} has no preprocessor_config.json. Add the one published with "
            "the model, or write it with the save_pretrained of its image processor."
        )
    hide_broken_torchvision()
    from PIL import Image
    from transformers import AutoImageProcessor

    try:
        processor: Any = AutoImageProcessor.from_pretrained(
            checkpoint.directory, backend="pil", trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, ImportError, TypeError) as error:
        raise UsageError(
            f"the image processor in {checkpoint.directory} cannot be loaded: {error}. Repair its "
            "preprocessor_config.json."
        ) from error

    def read(images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        pictures = [Image.fromarray(image) for image in images]
        return {"pixel_values": processor(pictures, return_tensors="np")["pixel_values"]}

    return read


def load_tokenizer(checkpoint: Checkpoint, trust_remote_code: bool) -> Any:
    """The checkpoint's tokenizer, padding on the right.

    On the right, absolute positions and causal attention leave padding without effect.

    Args:
        checkpoint: the checkpoint.
        trust_remote_code: whether its code may run.

    Returns:
        The tokenizer; where it has no padding token, its end token stands in, behind the mask.

    Raises:
        UsageError: there is none, or one that does not load.
    """
    if not tokenizer_files(checkpoint):
        raise UsageError(
            f"a text model brings its tokenizer; {checkpoint.directory} has no tokenizer.json. "
            "Add the one published with the model, or write it with the tokenizer's "
            "save_pretrained."
        )
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            checkpoint.directory, trust_remote_code=trust_remote_code
        )
    # tokenizers' Rust half raises plain Exceptions for a damaged tokenizer.json.
    except Exception as error:
        raise UsageError(
            f"the tokenizer in {checkpoint.directory} cannot be loaded: {error}. Download or save "
            "it again."
        ) from error
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def text_reader(
    tokenizer: Any, model: Any, length: int, full_length: bool
) -> Callable[[Sequence[str]], dict[str, np.ndarray]]:
    """A tokenizer for the arguments that a model takes.

    Args:
        tokenizer: from `load_tokenizer`.
        model: the module that reads its tokens.
        length: tokens kept of a text.
        full_length: pad every text to it, and show the model no mask.

    Returns:
        b texts -> their int64 [b, l] tokens, what else the model takes of them, and "mask".
    """
    taken = set(inspect.signature(model.forward).parameters)
    # A tokenizer keeps padding and truncation as state and promises nothing to threads; Rust
    # spreads the texts of one call over the cores by itself.
    lock = threading.Lock()

    def read(texts: Sequence[str]) -> dict[str, np.ndarray]:
        with lock:
            encoded = tokenizer(
                list(texts),
                padding="max_length" if full_length else True,
                truncation=True,
                max_length=length,
                return_attention_mask=True,
            )
        arrays = {
            name: np.asarray(rows, np.int64).reshape(len(texts), -1)
            for name, rows in encoded.items()
        }
        arrays = _without_empty_rows(arrays, tokenizer.pad_token_id)
        inputs = {name: array for name, array in arrays.items() if name in taken}
        if full_length:
            inputs.pop("attention_mask", None)
        return inputs | {"mask": arrays["attention_mask"]}

    return read


def _without_empty_rows(arrays: dict[str, np.ndarray], token: int) -> dict[str, np.ndarray]:
    """An empty text without special tokens has no tokens at all: it reads as one padding token."""
    if arrays["attention_mask"].shape[1] == 0:
        rows = len(arrays["attention_mask"])
        arrays = {name: np.zeros((rows, 1), np.int64) for name in arrays}
        arrays["input_ids"][:] = token
    empty = ~arrays["attention_mask"].any(1)
    arrays["attention_mask"][empty, 0] = 1
    return arrays


def token_limit(tokenizer: Any, description: Any, config: TeacherConfig) -> int:
    """How many tokens of a text a model reads.

    Args:
        tokenizer: its tokenizer.
        description: transformers' config of the model.
        config: `max_length` asks for a number; 0 for as many as the model can.

    Returns:
        The number.

    Raises:
        ConfigError: the config asks for more positions than the model has.
    """
    text = description.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if positions and text.model_type in _POSITIONS_AFTER_PADDING:
        positions -= text.pad_token_id + 1
    if config.max_length:
        if positions and config.max_length > positions:
            raise ConfigError(
                f"config.teachers.*.max_length is at most the {positions} positions of "
                f"{config.source}; got {config.max_length}."
            )
        return config.max_length
    known = tokenizer.model_max_length < _UNLIMITED
    limit = tokenizer.model_max_length if known else positions or _FALLBACK_LENGTH
    return min(limit, positions or limit)


def take_part(examples: Sequence[Example], part: str) -> list[Any]:
    """One part of every example.

    Args:
        examples: b examples.
        part: "image" or "text".

    Returns:
        b images or texts.

    Raises:
        DataError: an example has no such part.
    """
    for example in examples:
        if part not in example:
            raise DataError(
                f"this teacher reads the {part} of an example; one has only "
                f"{', '.join(example) or 'nothing'}. Use another teacher, set "
                "config.teachers.*.tower for a model with two, or see config.data.columns."
            )
    return [example[part] for example in examples]
