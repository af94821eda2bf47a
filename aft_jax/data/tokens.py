"""The student's tokens: texts become ids once, and batches are padded to one of a few lengths.

A text that is too long loses its beginning: templates ask their question at the end.
"""

import dataclasses
import functools
import itertools
import operator
import pathlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from aft_jax.config import InputsConfig
from aft_jax.errors import ConfigError
from aft_jax.progress import progress_bar

BYTES = "bytes"
"""Name of the built-in tokenizer, which needs no file: the UTF-8 bytes of a text, each plus one."""

BYTES_VOCABULARY = 257
"""Ids of that tokenizer: 256 bytes after the padding, which is 0."""

CHUNK = 2_000
"""Texts tokenised at once."""

BAR_FROM = 20_000
"""Texts from which on progress is shown."""

_LOCK = threading.Lock()


class _Tokenizer(NamedTuple):
    """What a tokenizer does for us.

    Attributes:
        encode: (texts, max_length) -> names like "input_ids" -> a list of ids for every text.
        pad_id: what fills up a row.
        vocab_size: every id is smaller.
    """

    encode: Callable[[Sequence[str], int], dict[str, list[Any]]]
    pad_id: int
    vocab_size: int


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The tokens of n texts, one after the other without padding.

    Attributes:
        ids: [total] int32, of all texts.
        type_ids: [total] int32, or None from a tokenizer that tells no segments apart.
        offsets: [n + 1] int64; text i has the ids from offsets[i] to before offsets[i + 1].
        pad_id: fills up a row.
        vocab_size: ids that the tokenizer can give; every one is smaller.
    """

    ids: np.ndarray
    type_ids: np.ndarray | None
    offsets: np.ndarray
    pad_id: int
    vocab_size: int

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.offsets) - 1

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """[n] tokens of every text."""
        return np.diff(self.offsets)

    def batch(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Some of the texts, side by side.

        Args:
            rows: [b] positions.
            length: l, at least that of the longest of them; see `bucket`.

        Returns:
            "input_ids" and "attention_mask", [b, l] int32, padded on the right, and
            "token_type_ids" from a tokenizer that makes them.

        Raises:
            ValueError: a text is longer.
        """
        rows = np.asarray(rows)
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        if lengths.size and lengths.max() > length:
            raise ValueError(
                f"a batch is as long as its longest text, {lengths.max()}; got {length}"
            )
        places = np.arange(length)[None, :]
        mask = places < lengths[:, None]
        found = (starts[:, None] + places)[mask]
        batch = {
            "input_ids": np.full(mask.shape, self.pad_id, np.int32),
            "attention_mask": mask.astype(np.int32),
        }
        batch["input_ids"][mask] = self.ids[found]
        if self.type_ids is not None:
            batch["token_type_ids"] = np.zeros(mask.shape, np.int32)
            batch["token_type_ids"][mask] = self.type_ids[found]
        return batch


def bucket(lengths: np.ndarray, buckets: Sequence[int]) -> int:
    """The length that a batch is padded to: jit compiles one program for each, no more.

    Args:
        lengths: [b] tokens of its texts.
        buckets: lengths to choose from.

    Returns:
        The smallest that holds the longest text.

    Raises:
        ConfigError: none does.
    """
    longest = int(np.max(lengths, initial=0))
    fitting = [size for size in buckets if size >= longest]
    if not fitting:
        raise ConfigError(
            "config.inputs.buckets holds every text: the largest is config.inputs.max_length; got "
            f"{tuple(buckets)} and a text of {longest} tokens."
        )
    return min(fitting)


def tokenize(texts: Iterable[str], config: InputsConfig, count: int | None = None) -> Tokens:
    """Turns texts into tokens; safe to call in several threads.

    Args:
        texts: the texts, read once and not kept.
        config: the tokenizer, and how many tokens of a text are kept: its last ones, beside what
            the tokenizer puts around every text.
        count: how many texts there are, where `texts` cannot tell; many show their progress.

    Returns:
        The tokens.

    Raises:
        ConfigError: the tokenizer cannot be loaded, or `max_length` leaves no room for
            a text.
    """
    tokenizer = _load(config.tokenizer)
    total = operator.length_hint(texts) if count is None else count
    columns: dict[str, list[np.ndarray]] = {"input_ids": []}
    lengths: list[int] = []
    remaining = iter(texts)
    bar = progress_bar(total, "tokenize", "text") if total > BAR_FROM else None
    while chunk := list(itertools.islice(remaining, CHUNK)):
        encoded = tokenizer.encode(chunk, config.max_length)
        lengths += map(len, encoded["input_ids"])
        for name, values in encoded.items():
            columns.setdefault(name, []).append(_flat(values))
        if bar is not None:
            bar.update(len(chunk))
    if bar is not None:
        bar.close()
    flat = {
        name: np.concatenate([np.zeros(0, np.int32), *parts]) for name, parts in columns.items()
    }
    return Tokens(
        ids=flat["input_ids"],
        type_ids=flat.get("token_type_ids"),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        pad_id=tokenizer.pad_id,
        vocab_size=tokenizer.vocab_size,
    )


def vocabulary_size(config: InputsConfig) -> int:
    """How many ids the student's tokenizer can give.

    Args:
        config: the tokenizer.

    Returns:
        Every id is smaller.

    Raises:
        ConfigError: the tokenizer cannot be loaded.
    """
    return _load(config.tokenizer).vocab_size


def _flat(values: Sequence[Any]) -> np.ndarray:
    if values and isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    return np.fromiter(itertools.chain.from_iterable(values), np.int32)


@functools.lru_cache(maxsize=4)
def _load(name: str) -> _Tokenizer:
    return _Tokenizer(_encode_bytes, 0, BYTES_VOCABULARY) if name == BYTES else _pretrained(name)


def _encode_bytes(texts: Sequence[str], max_length: int) -> dict[str, list[Any]]:
    # Half a surrogate pair, which JSON can hold, has no UTF-8.
    raw = (text.encode(errors="replace")[-max_length:] for text in texts)
    return {"input_ids": [np.frombuffer(text, np.uint8).astype(np.int32) + 1 for text in raw]}


def _pretrained(name: str) -> _Tokenizer:
    tokenizer = _from_transformers(name)
    known = set(tokenizer.model_input_names)
    around = tokenizer.num_special_tokens_to_add()

    def encode(texts: Sequence[str], max_length: int) -> dict[str, list[Any]]:
        if max_length <= around:
            raise ConfigError(
                f"config.inputs.max_length has room for a text beside the {around} tokens that the "
                f"tokenizer {name!r} puts around it; got {max_length}."
            )
        # One tokenizer serves all threads, and truncation is a state of it.
        with _LOCK:
            encoded = tokenizer(
                list(texts),
                truncation=True,
                max_length=max_length,
                return_attention_mask=False,
                return_token_type_ids="token_type_ids" in known,
            )
        return {key: encoded[key] for key in ("input_ids", "token_type_ids") if key in encoded}

    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    pad_id = next(int(found) for found in candidates if found is not None)
    return _Tokenizer(encode, pad_id, len(tokenizer))


def _from_transformers(name: str) -> Any:
    rule = "config.inputs.tokenizer is a directory or hub id of a tokenizer"
    fix = (
        "Give the directory that `save_pretrained` of the tokenizer wrote, the hub id where there "
        f"is a network, or {BYTES!r} for the built-in one."
    )
    if not name or (name.startswith(("/", ".", "~")) and not pathlib.Path(name).is_dir()):
        raise ConfigError(f"{rule}; {name!r} is no directory. {fix}")
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"{rule}, read by the package transformers; {error}. Install it: "
            "pip install 'aft_jax[teachers]'."
        ) from error
    try:
        return transformers.AutoTokenizer.from_pretrained(name, truncation_side="left")
    # The readers of the many formats raise errors of any kind, down to bare `Exception`.
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        raise ConfigError(f"{rule}; {name!r} cannot be loaded: {first}. {fix}") from error
