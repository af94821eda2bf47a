"""A checkpoint in the Hugging Face layout, on this machine or on the hub: what it is, and its hash.

Nothing here loads a model, or needs transformers or torch: a run that only reads stored features
names its teacher by these files.
"""

import functools
import hashlib
import json
import logging
import pathlib
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from aft_jax.errors import ConfigError, UsageError
from aft_jax.files import sha256_of

_LOGGER = logging.getLogger(__name__)
_PATTERNS = ("*.json", "*.txt", "*.model")
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt"),
    *("spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
)
_HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
_SHARD = re.compile(r"[\w.-]+\.safetensors")
_SETTLED_NS = 2_000_000_000
"""A file that is younger than this may change again within one tick of the clock of its time."""


class Source(NamedTuple):
    """Where a config says that a checkpoint is.

    Attributes:
        name: a directory, or a hub id.
        revision: branch, tag or commit of a hub id; "" for its newest.
        key: the config key that gave the name, "student.pretrained", for messages; the key of the
            revision stands beside it.
        code: whether code of the repository may run, and so belongs to the checkpoint.
        reader: what reads the key, where others read it otherwise: "a timm teacher".
        weights: how the names of its weight files begin.
    """

    name: str
    revision: str
    key: str
    code: bool = False
    reader: str = ""
    weights: tuple[str, ...] = ("model",)


class Checkpoint(NamedTuple):
    """A checkpoint that is on this machine.

    Attributes:
        directory: its files.
        id: hub id, or the name of a local directory.
        revision: commit hash of a hub checkpoint; of a local one, what the config says.
    """

    directory: pathlib.Path
    id: str
    revision: str


def find_checkpoint(source: Source) -> Checkpoint | None:
    """The checkpoint that a config names, without the network.

    Args:
        source: its name and revision.

    Returns:
        The checkpoint, or None where it is not on this machine, or not all of its weights are.

    Raises:
        UsageError: the index of its weights is damaged.
    """
    local = _local(source)
    if local is not None or not _HUB_ID.fullmatch(source.name):
        return local
    try:
        from huggingface_hub import errors
    except ModuleNotFoundError:
        return None  # whatever fills the cache would have brought it
    try:
        found = _download(source, offline=True)
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None
    listed = (_weights_listed(found.directory, name) for name in source.weights)
    whole = any(paths and all(path.is_file() for path in paths) for paths in listed)
    return found if whole else None


def fetch_checkpoint(source: Source) -> Checkpoint:
    """The checkpoint that a config names, downloaded if need be.

    Args:
        source: its name and revision.

    Returns:
        The checkpoint.

    Raises:
        ConfigError: it is to be downloaded, and the hub's client is not installed.
        UsageError: it is neither here nor to be had.
    """
    found = find_checkpoint(source)
    if found is not None and (source.revision or _local(source)):
        return found
    if not _HUB_ID.fullmatch(source.name):
        whose = f" of {source.reader}" if source.reader else ""
        raise UsageError(
            f"config.{source.key}{whose} is a directory or a hub id; "
            f"there is no directory {source.name!r}. Check the path."
        )
    try:
        return _download(source, offline=False)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"config.{source.key} {source.name!r} is no directory here, and the hub needs "
            f"{error.name}: pip install {error.name}."
        ) from error
    # Whatever HTTP library the hub's client has in this version brings errors of its own.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if found is not None:
            _LOGGER.warning("%s: %s Its copy in the cache is used.", source.name, reason)
            return found
        raise _unavailable(source, reason) from error


def _unavailable(source: Source, reason: str) -> UsageError:
    parent, _, key = source.key.rpartition(".")
    return UsageError(
        f"config.{source.key} {source.name!r} is no directory here, and the hub did not give it: "
        f"{reason} Check the name, config.{parent}.revision, the network and, for a gated model, "
        f"your token; or download it elsewhere with `hf download {source.name}`, copy the "
        f"directory and name that as {key}."
    )


def _local(source: Source) -> Checkpoint | None:
    directory = pathlib.Path(source.name).expanduser()
    if not directory.is_dir():
        return None
    return Checkpoint(directory, directory.resolve().name, source.revision)


def _download(source: Source, offline: bool) -> Checkpoint:
    from huggingface_hub import snapshot_download

    directory = snapshot_download(
        source.name,
        revision=source.revision or None,
        allow_patterns=[
            *_PATTERNS,
            *(f"{name}*.safetensors" for name in source.weights),
            *(["*.py"] if source.code else []),
        ],
        local_files_only=offline,
    )
    # The cache names the directory of a snapshot by its commit.
    return Checkpoint(pathlib.Path(directory), source.name, pathlib.Path(directory).name)


def read_json(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """One of a checkpoint's JSON files.

    Args:
        checkpoint: the checkpoint.
        name: of the file.

    Returns:
        Its content; empty where there is no such file.

    Raises:
        UsageError: it is no JSON object.
    """
    path = checkpoint.directory / name
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is JSON; {error}. Download or save it again.") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is a JSON object; found {type(content).__name__}.")
    return content


def read_description(checkpoint: Checkpoint, key: str) -> dict[str, Any]:
    """A checkpoint's config.json.

    Args:
        checkpoint: the checkpoint.
        key: the config key that names it, for messages.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    description = read_json(checkpoint, "config.json")
    if not description:
        raise UsageError(
            "a Hugging Face checkpoint is a directory with a config.json that names its "
            f"model_type; {checkpoint.directory} has none. Point config.{key} at what "
            "save_pretrained wrote."
        )
    return description


def processor_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """The published settings of the image processor; empty where the checkpoint has none."""
    nested = read_json(checkpoint, "processor_config.json").get("image_processor")
    return nested or read_json(checkpoint, "preprocessor_config.json")


def tokenizer_files(checkpoint: Checkpoint) -> list[pathlib.Path]:
    """The files that decide how a text becomes tokens; none where there is no tokenizer."""
    paths = [checkpoint.directory / name for name in _TOKENIZER_FILES]
    return [path for path in paths if path.is_file()]


def weights_digest(checkpoint: Checkpoint, code: bool) -> str:
    """SHA-256 over config.json, the weights that are loaded, and code that runs.

    Args:
        checkpoint: the checkpoint.
        code: whether its code runs.

    Returns:
        64 hexadecimal digits.

    Raises:
        UsageError: it has no safetensors, or lacks a shard.
    """
    paths = [checkpoint.directory / "config.json", *weight_files(checkpoint)]
    return files_digest([*paths, *(checkpoint.directory.glob("*.py") if code else ())])


def files_digest(paths: Sequence[pathlib.Path]) -> str:
    """SHA-256 over the names and contents of some files, in order of their names."""
    lines = [f"{path.name} {_content_hash(path)}\n" for path in sorted(paths)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _content_hash(path: pathlib.Path) -> str:
    blob = path.resolve()
    # The hub's cache names a large file by this very hash, so that 14 GB need not be read again.
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    status = blob.stat()
    if time.time_ns() - status.st_mtime_ns < _SETTLED_NS:
        return sha256_of(blob)
    return _hash_once(blob, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _hash_once(path: pathlib.Path, size: int, mtime_ns: int) -> str:
    """The SHA-256 of a file, whose size and time tell whether it is still the same one."""
    return sha256_of(path)


def weight_files(checkpoint: Checkpoint, name: str = "model") -> list[pathlib.Path]:
    """The safetensors that are loaded, with their index where there are several.

    Args:
        checkpoint: the checkpoint.
        name: how their names begin.

    Returns:
        The files.

    Raises:
        UsageError: it has no safetensors, or lacks a shard.
    """
    listed = _weights_listed(checkpoint.directory, name)
    if not listed:
        unsafe = next(iter(checkpoint.directory.glob("*pytorch_model*.bin")), None)
        found = f"it has {unsafe.name}, which can run code when read" if unsafe else "it has none"
        raise UsageError(
            f"weights are read from safetensors files only; {checkpoint.directory} {found}. "
            f"Use a revision that has {name}.safetensors, or load the model where you trust it and "
            "write it again with save_pretrained."
        )
    missing = [path.name for path in listed if not path.is_file()]
    if missing:
        raise UsageError(
            f"a sharded checkpoint has every file that its index lists; {checkpoint.directory} "
            f"lacks {', '.join(missing)}. Download it again."
        )
    return listed


def _weights_listed(directory: pathlib.Path, name: str) -> list[pathlib.Path]:
    """In the order in which transformers looks for them."""
    whole, index = (directory / f"{name}.safetensors{end}" for end in ("", ".index.json"))
    if whole.is_file():
        return [whole]
    if not index.is_file():
        return []
    match read_json(Checkpoint(directory, "", ""), index.name):
        case {"weight_map": {**weights}} if all(
            isinstance(name, str) and _SHARD.fullmatch(name) for name in weights.values()
        ):
            return [index, *(directory / name for name in sorted(set(weights.values())))]
    raise UsageError(
        f"{index} has a weight_map, from the name of each tensor to a safetensors file beside it; "
        "found none. Download it again."
    )
