"""Describable Textures: 47 words for textures, 40 images of each to train on.

    aft-jax extract --config=configs/dtd.py
    aft-jax train   --config=configs/dtd.py --workdir=runs/dtd-aft
    aft-jax compare --config=configs/dtd.py --workdir=runs/dtd-compare

1,880 images each to train on, to tune and to test: the first of the ten partitions it was published
with.

dtd names a builder of TensorFlow Datasets; prepare it once with `tfds build dtd`, which needs
TensorFlow, or copy a prepared one. Reading it needs none.

Lab note. Not measured here yet: the weights of the students are on the Hugging Face hub.
"""

import ml_collections

from aft_jax.config.file import parse_arguments
from configs.common import smoke, vision


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
    """The config.

    Args:
        arguments: "student=vit_s,teachers=dinov2_g+clip_g,smoke": of
            `configs.students.VISION_STUDENTS`, of `configs.common.VISION_TEACHERS` joined by + or
            none; `smoke` shrinks all to seconds on generated data.

    Returns:
        The config.
    """
    args = parse_arguments(arguments, smoke=False, student="vit_s", teachers="dinov2_g+clip_g")
    config = vision(args.teachers, args.student)
    config.data.update(
        name="dtd",
        source="tfds",
        path="dtd",
        train="train",
        tune="validation",
        tune_fraction=0.0,
        test="test",
    )
    return smoke(config) if args.smoke else config
