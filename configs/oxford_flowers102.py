"""Oxford Flowers: 102 kinds of flowers, ten labelled images of each to train on.

    aft-jax extract --config=configs/oxford_flowers102.py
    aft-jax train   --config=configs/oxford_flowers102.py --workdir=runs/oxford_flowers102-aft
    aft-jax compare --config=configs/oxford_flowers102.py --workdir=runs/oxford_flowers102-compare

1,020 images to train on, 1,020 to tune, 6,149 to test: the splits it was published with.

oxford_flowers102 names a builder of TensorFlow Datasets; prepare it once with `tfds build
oxford_flowers102`, which needs TensorFlow, or copy a prepared one. Reading it needs none.

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
        name="oxford_flowers102",
        source="tfds",
        path="oxford_flowers102",
        train="train",
        tune="validation",
        tune_fraction=0.0,
        test="test",
    )
    return smoke(config) if args.smoke else config
