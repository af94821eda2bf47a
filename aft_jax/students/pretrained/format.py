"""A published way to write a model down: whose config.json, whose names, which of our students."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aft_jax.students.pretrained.names import Row

Description = Mapping[str, Any]
"""What a checkpoint's config.json says."""


class Format(NamedTuple):
    """One publisher's files of one architecture, in both directions.

    Attributes:
        name: for messages and for what is written beside a trained student: "timm vit".
        student: our architecture, a key of `aft_jax.students.STUDENTS`.
        recognises: whether a config.json is of this kind.
        options: config.json -> the architecture's options.
        rows: names of all tensors but the classifier's.
        head: names of the classifier's.
        prefix: that a model with a classifier puts in front of all other names, and one without
            may lack.
        renamed: endings of names in some files -> what the rows say, where they know only that.
        ignored: patterns of tensors that the student has no use for.
        carried: those of them that go from the original into what is exported.
        tied: whether weights of these options fit images of one size only.
        antialias: how the publisher resizes positions: with a low-pass filter or without.
        config: the file that describes the model.
        weights: how the names of the weight files begin.
        exported: (config.json, options, class names) -> config.json of the trained student.
    """

    name: str
    student: str
    recognises: Callable[[Description], bool]
    options: Callable[[Description], dict[str, Any]]
    rows: Sequence[Row]
    head: Sequence[Row]
    exported: Callable[[Description, Mapping[str, Any], Sequence[str]], dict[str, Any]]
    prefix: str = ""
    renamed: Mapping[str, str] = {}
    ignored: Sequence[str] = ()
    carried: Sequence[str] = ()
    tied: Callable[[Mapping[str, Any]], bool] = lambda options: False
    antialias: bool = False
    config: str = "config.json"
    weights: str = "model"

    def canonical(self, name: str, known: Container[str]) -> str:
        """A tensor's name as the rows write it.

        Args:
            name: as a file has it.
            known: what the rows name for a student.

        Returns:
            The name without prefix, and in its new form where only that is known.
        """
        name = name.removeprefix(self.prefix)
        for old, new in self.renamed.items():
            today = name.removesuffix(old) + new
            if name not in known and name.endswith(old) and today in known:
                return today
        return name


def model_type(*names: str) -> Callable[[Description], bool]:
    """Recognises a config.json of transformers.

    Args:
        *names: model types.

    Returns:
        The `recognises` of a format.
    """
    return lambda description: description.get("model_type") in names


def labelled(description: Description, classes: Sequence[str]) -> dict[str, Any]:
    """A transformers config.json with these classes, for weights that are float32 now.

    Args:
        description: the config.json.
        classes: their names, in the order of the logits.

    Returns:
        The changed one.
    """
    changed = {key: value for key, value in description.items() if key != "torch_dtype"}
    return changed | {
        "dtype": "float32",
        "id2label": {str(number): name for number, name in enumerate(classes)},
        "label2id": {name: number for number, name in enumerate(classes)},
    }


def timm_settings(description: Description) -> Description:
    """What a timm config.json says of inputs and weights; in older ones it stands at the top."""
    return description.get("pretrained_cfg") or description


OF_TRAINING = (
    *("num_classes", "drop_rate", "drop_path_rate", "pos_drop_rate", "patch_drop_rate"),
    *("proj_drop_rate", "attn_drop_rate", "drop_block_rate", "zero_init_last", "weight_init"),
)
"""Arguments of timm's models that change no weight's shape and nothing at inference."""


def timm_arguments(description: Description, known: Iterable[str]) -> dict[str, Any]:
    """The `model_args` of a timm config.json: how it differs from the named architecture.

    Args:
        description: the config.json.
        known: arguments that ours has a counterpart of, beside those of training.

    Returns:
        Argument -> value, those of training left out.

    Raises:
        ValueError: another one is given.
    """
    given = dict(description.get("model_args", {}))
    unknown = sorted(set(given) - set(known) - set(OF_TRAINING))
    if unknown:
        raise ValueError(
            f"model_args are among {', '.join((*known, *OF_TRAINING))}; got {', '.join(unknown)}"
        )
    return {name: value for name, value in given.items() if name not in OF_TRAINING}


def huggingface_export(
    architecture: str, **keys: str
) -> Callable[[Description, Mapping[str, Any], Sequence[str]], dict[str, Any]]:
    """How a transformers config.json changes with training.

    Args:
        architecture: class of transformers that reads it.
        **keys: their key -> the option of ours that it repeats ("image_size").

    Returns:
        The `exported` of a format.
    """

    def exported(
        description: Description, options: Mapping[str, Any], classes: Sequence[str]
    ) -> dict[str, Any]:
        changed = dict(description) | {theirs: options[ours] for theirs, ours in keys.items()}
        return labelled(changed | {"architectures": [architecture]}, classes)

    return exported


TIMM_POOLINGS = {"cls": "token", "mean": "avg", "map": "map"}
"""Our poolings of a vision transformer -> timm's."""


def timm_export(
    description: Description, options: Mapping[str, Any], classes: Sequence[str]
) -> dict[str, Any]:
    """How a timm config.json changes with training: the `exported` of its formats."""
    changed = dict(description) | {"num_classes": len(classes), "label_names": list(classes)}
    arguments = dict(changed.get("model_args", {}))
    size = options.get("image_size")
    if size:
        arguments["img_size"] = size
    if options.get("pooling") in TIMM_POOLINGS:
        arguments["global_pool"] = TIMM_POOLINGS[options["pooling"]]
    if arguments:
        changed["model_args"] = arguments
    kept = ("mean", "std", "interpolation", "crop_pct", "crop_mode", "input_size")
    settings = timm_settings(description)
    published = dict(changed.get("pretrained_cfg", {})) or {
        key: settings[key] for key in kept if key in settings
    }
    published |= {"num_classes": len(classes)} | ({"input_size": [3, size, size]} if size else {})
    return changed | {"pretrained_cfg": published}
