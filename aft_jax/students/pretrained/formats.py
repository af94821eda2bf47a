"""All formats, and which one a checkpoint is of."""

import difflib
from collections.abc import Mapping

from aft_jax.errors import UsageError
from aft_jax.hub import Checkpoint, read_json
from aft_jax.students.pretrained import bert_huggingface, vit_huggingface
from aft_jax.students.pretrained.clip_huggingface import HUGGINGFACE_CLIP
from aft_jax.students.pretrained.clip_openai import OPENAI_CLIP
from aft_jax.students.pretrained.format import Description, Format
from aft_jax.students.pretrained.known import KNOWN
from aft_jax.students.pretrained.mixer_timm import TIMM_MIXER
from aft_jax.students.pretrained.mobilenet_timm import TIMM_MOBILENET_V4
from aft_jax.students.pretrained.resnet_huggingface import HUGGINGFACE_RESNET
from aft_jax.students.pretrained.resnet_timm import TIMM_RESNET
from aft_jax.students.pretrained.resnet_v2_huggingface import HUGGINGFACE_RESNET_V2
from aft_jax.students.pretrained.resnet_v2_timm import TIMM_RESNET_V2
from aft_jax.students.pretrained.vit_timm import TIMM_VIT

FORMATS: Mapping[str, Format] = {
    form.name: form
    for form in (
        TIMM_VIT,
        *vit_huggingface.FORMATS,
        TIMM_RESNET,
        HUGGINGFACE_RESNET,
        TIMM_RESNET_V2,
        HUGGINGFACE_RESNET_V2,
        TIMM_MIXER,
        TIMM_MOBILENET_V4,
        *bert_huggingface.FORMATS,
        HUGGINGFACE_CLIP,
        OPENAI_CLIP,
    )
}
"""Name -> format."""

MODEL_TYPES = (
    *("vit", "dinov2", "dinov2_with_registers", "clip_vision_model", "siglip_vision_model"),
    *("resnet", "bit", "bert", "distilbert", "clip"),
)
"""transformers' names of them, for suggestions."""


def recognise(checkpoint: Checkpoint, student: str) -> tuple[Format, Description]:
    """What a checkpoint is, by its config.json.

    Args:
        checkpoint: the checkpoint.
        student: the architecture that it is to be: some hold several.

    Returns:
        Its format and the content of its config.json.

    Raises:
        UsageError: it has none, or no student of ours reads it, or only another one.
    """
    found = []
    for form in FORMATS.values():
        description = read_json(checkpoint, form.config)
        if description and form.recognises(description):
            found.append((form, description))
    for form, description in found:
        if form.student == student:
            return form, description
    if found:
        others = ", ".join(sorted({repr(form.student) for form, _ in found}))
        raise UsageError(
            f"config.student.pretrained holds weights of config.student.name; {checkpoint.id} is "
            f"for {others}, and the name is {student!r}. Set config.student.name."
        )
    raise _unknown(checkpoint)


def _unknown(checkpoint: Checkpoint) -> UsageError:
    description = read_json(checkpoint, "config.json")
    kind = description.get("architecture") or description.get("model_type")
    if kind is None:
        return UsageError(
            "config.student.pretrained is a directory or hub id with a config.json that names a "
            f"timm architecture or a transformers model_type; {checkpoint.directory} has "
            f"{'none that does' if description else 'no config.json'}."
        )
    architectures = {name.partition("/")[2].partition(".")[0] for name in KNOWN}
    near = difflib.get_close_matches(str(kind), {*MODEL_TYPES, *architectures}, n=3)
    return UsageError(
        f"config.student.pretrained is a checkpoint of {', '.join(FORMATS)}; {checkpoint.id} is "
        f"{kind!r}. " + (f"Near matches: {', '.join(near)}." if near else "")
    )
