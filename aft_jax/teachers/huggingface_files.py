"""A Hugging Face checkpoint on disk: where it is, what it holds, and the hash of it.

Nothing here loads a model, or needs transformers: a run that only reads stored features names its
teacher by these files.
"""

import hashlib
import json
import logging
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from aft_jax.config import TeacherConfig
from aft_jax.errors import ConfigError, UsageError
from aft_jax.files import sha256_of

_LOGGER = logging.getLogger(__name__)
_PATTERNS = ("*.json", "*.txt", "*.model", "model*.safetensors")
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt"),
    *("spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


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


def find_checkpoint(config: TeacherConfig) -> Checkpoint | None:
    """The checkpoint that a config names, without the network.

    Args:
        config: `source` is a directory or a hub id.

    Returns:
        The checkpoint, or None where it is not on this machine.

    Raises:
        ConfigError: code from the repository is to run, at no fixed revision.
    """
    _check_remote_code(config)
    local = _local(config)
    if local is not None or not _HUB_ID.fullmatch(config.source):
        return local
    try:
        from huggingface_hub import errors
    except ModuleNotFoundError:
        return None  # whatever fills the cache would have brought it
    try:
        found = _download(config, offline=True)
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None
    return found if _weights_listed(found.directory) else None


def fetch_checkpoint(config: TeacherConfig) -> Checkpoint:
    """The checkpoint that a config names, downloaded if need be.

    Args:
        config: `source` is a directory or a hub id.

    Returns:
        The checkpoint.

    Raises:
        ConfigError: code from the repository is to run, at no fixed revision.
        UsageError: it is neither here nor to be had.
    """
    found = find_checkpoint(config)
    if found is not None and (config.revision or _local(config)):
        return found
    if not _HUB_ID.fullmatch(config.source):
        raise UsageError(
            "config.teachers.*.source of a huggingface teacher is a directory or a hub id; "
            f"there is no directory {config.source!r}. Check the path."
        )
    try:
        return _download(config, offline=False)
    # Whatever HTTP library the hub's client has in this version brings errors of its own.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if found is not None:
            _LOGGER.warning("%s: %s Its copy in the cache is used.", config.source, reason)
            return found
        raise UsageError(
            f"config.teachers.*.source {config.source!r} is no directory here, and the hub did not "
            f"give it: {reason} Check the name, config.teachers.*.revision, the network and, for a "
            "gated model, your token; or download it elsewhere with "
            f"`hf download {config.source}`, copy the directory and name that as source."
        ) from error


def _check_remote_code(config: TeacherConfig) -> None:
    if config.trust_remote_code and not _COMMIT.fullmatch(config.revision):
        raise ConfigError(
            "config.teachers.*.trust_remote_code runs code from the model's repository, so "
            "config.teachers.*.revision names the commit you have read, as 40 hexadecimal digits; "
            f"got {config.revision!r}."
        )


def _local(config: TeacherConfig) -> Checkpoint | None:
    directory = pathlib.Path(config.source).expanduser()
    if not directory.is_dir():
        return None
    return Checkpoint(directory, directory.resolve().name, config.revision)


def _download(config: TeacherConfig, offline: bool) -> Checkpoint:
    from huggingface_hub import snapshot_download

    directory = snapshot_download(
        config.source,
        revision=config.revision or None,
        allow_patterns=[*_PATTERNS, *(["*.py"] if config.trust_remote_code else [])],
        local_files_only=offline,
    )
    # The cache names the directory of a snapshot by its commit.
    return Checkpoint(pathlib.Path(directory), config.source, pathlib.Path(directory).name)


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


def read_description(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint's config.json.

    Args:
        checkpoint: the checkpoint.

    Returns:
        Its content.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    description = read_json(checkpoint, "config.json")
    if not description:
        raise UsageError(
            "a Hugging Face checkpoint is a directory with a config.json that names its "
            f"model_type; {checkpoint.directory} has none. Point config.teachers.*.source at what "
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
    return sha256_of(path)


def weight_files(checkpoint: Checkpoint) -> list[pathlib.Path]:
    """The safetensors that are loaded, with their index where there are several.

    Args:
        checkpoint: the checkpoint.

    Returns:
        The files.

    Raises:
        UsageError: it has no safetensors, or lacks a shard.
    """
    listed = _weights_listed(checkpoint.directory)
    if not listed:
        unsafe = any(checkpoint.directory.glob("pytorch_model*.bin"))
        found = (
            "it has pytorch_model.bin, which can run code when read" if unsafe else "it has none"
        )
        raise UsageError(
            f"weights are read from safetensors files only; {checkpoint.directory} {found}. "
            "Use a revision that has model.safetensors, or load the model where you trust it and "
            "write it again with save_pretrained."
        )
    missing = [path.name for path in listed if not path.is_file()]
    if missing:
        raise UsageError(
            f"a sharded checkpoint has every file that its index lists; {checkpoint.directory} "
            f"lacks {', '.join(missing)}. Download it again."
        )
    return listed


def _weights_listed(directory: pathlib.Path) -> list[pathlib.Path]:
    """In the order in which transformers looks for them."""
    whole, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        return []
    shards = read_json(Checkpoint(directory, "", ""), index.name).get("weight_map", {}).values()
    return [index, *(directory / name for name in sorted(set(shards)))]
