"""Loading a Hugging Face model whole: with all of its weights, without its chatter."""

import contextlib
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from aft_jax.config import TeacherConfig
from aft_jax.errors import UsageError
from aft_jax.hub import Checkpoint, read_description
from aft_jax.teachers.huggingface_families import ARCHITECTURES, Architecture
from aft_jax.teachers.huggingface_forward import Plan
from aft_jax.teachers.huggingface_inputs import hide_broken_torchvision
from aft_jax.teachers.huggingface_source import SOURCE_KEY


class Reading(NamedTuple):
    """How a checkpoint is read under a config.

    Attributes:
        checkpoint: the files.
        architecture: what can be read of them, and which parts of an example are.
        plan: which states become features.
    """

    checkpoint: Checkpoint
    architecture: Architecture
    plan: Plan


def load_model(config: TeacherConfig, reading: Reading) -> Any:
    """Loads the part of a checkpoint's model that is read.

    Args:
        config: the dtype, and whether the checkpoint's code may run.
        reading: the checkpoint and what is read of it.

    Returns:
        The torch module, on the CPU.

    Raises:
        UsageError: the checkpoint is damaged, or lacks weights that the features need.
    """
    hide_broken_torchvision()
    import torch
    import transformers
    from safetensors import SafetensorError

    directory = reading.checkpoint.directory
    encoder = reading.plan.encoder_decoder and reading.plan.pooling != "model"
    # Of T5 and its kin transformers loads the encoder alone, half of the weights.
    description = read_description(reading.checkpoint, SOURCE_KEY)
    alone = encoder and description["model_type"] in ARCHITECTURES
    auto = transformers.AutoModelForTextEncoding if alone else transformers.AutoModel
    try:
        with _quiet():
            model, loading = auto.from_pretrained(
                directory,
                dtype=getattr(torch, config.dtype),
                use_safetensors=True,
                trust_remote_code=config.trust_remote_code,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise UsageError(
            f"transformers cannot load the checkpoint in {directory}: {error}. Download or save it "
            "again; a model type that this transformers does not know needs a newer one."
        ) from error
    _check_complete(loading["missing_keys"], reading)
    model.config.use_cache = False
    return model.get_encoder() if encoder and not alone else model


def _check_complete(missing: Collection[str], reading: Reading) -> None:
    """Weights that a checkpoint lacks are random: no features may come from them."""
    pooled = reading.plan.pooling in ("pooler", "model")
    lacking = sorted(key for key in missing if pooled or "pooler" not in key.split("."))
    if lacking:
        others = [name for name in reading.architecture.poolings if name not in ("pooler", "model")]
        only_pooler = all("pooler" in key.split(".") for key in lacking)
        fix = (
            f"Set config.teachers.*.pooling to one of {', '.join(others)}."
            if only_pooler
            else "It belongs to another architecture than its config.json says; save it again."
        )
        raise UsageError(
            "a teacher's checkpoint has all of its weights; "
            f"{reading.checkpoint.directory} lacks {', '.join(lacking[:5])}"
            f"{' ...' if lacking[5:] else ''}. {fix}"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and lists of unused weights: what matters is checked here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
