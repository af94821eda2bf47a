"""What the name of a public checkpoint says of its architecture, without a file of it."""

from typing import Any

from aft_jax.config import InputsConfig, StudentConfig
from aft_jax.students.pretrained.formats import FORMATS
from aft_jax.students.pretrained.known import ALIASES

TIMM = "timm/"


def named_options(config: StudentConfig, inputs: InputsConfig) -> dict[str, Any] | None:
    """The options of a student whose weights are one of timm's architectures by its plain name.

    For shapes alone: a checkpoint may depart from the architecture that it is named after, and what
    is trained reads that in its config.json.

    Args:
        config: with `name` and `pretrained`.
        inputs: what it reads.

    Returns:
        The options, for images of the inputs' size where the weights do not fix it; None where
        there is no checkpoint or its name does not say.
    """
    name = ALIASES.get(config.pretrained, config.pretrained)
    if not name.startswith(TIMM):
        return None
    description = {"architecture": name.removeprefix(TIMM).partition(".")[0]}
    for form in FORMATS.values():
        if form.student == config.name and form.recognises(description):
            options = form.options(description)
            fixed = form.tied(options) or "image_size" not in options
            return options if fixed else options | {"image_size": inputs.image_size}
    return None
