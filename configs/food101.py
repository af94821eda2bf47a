"""Food-101: 101 dishes, the training images with some wrong labels.

    aft-jax extract --config=configs/food101.py
    aft-jax train   --config=configs/food101.py --workdir=runs/food101-aft
    aft-jax compare --config=configs/food101.py --workdir=runs/food101-compare

75,750 images to train on, 25,250 to test; TensorFlow Datasets calls the published test split
"validation". Tune is a tenth of train, carved out by a hash of the id.

food101 names a builder of TensorFlow Datasets; prepare it once with `tfds build food101`, which
needs TensorFlow, or copy a prepared one. Reading it needs none.

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
        name="food101",
        source="tfds",
        path="food101",
        train="train",
        tune="",
        tune_fraction=0.1,
        test="validation",
    )
    return smoke(config) if args.smoke else config
