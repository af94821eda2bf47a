"""CIFAR-10: 60,000 small photographs of ten kinds of things.

    aft-jax extract --config=configs/cifar10.py
    aft-jax train   --config=configs/cifar10.py --workdir=runs/cifar10-aft
    aft-jax compare --config=configs/cifar10.py --workdir=runs/cifar10-compare

50,000 images to train on, 10,000 to test, of 32 pixels. Tune is a tenth of train, carved out by a
hash of the id.

cifar10 names a builder of TensorFlow Datasets; prepare it once with `tfds build cifar10`, which
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
        name="cifar10",
        source="tfds",
        path="cifar10",
        train="train",
        tune="",
        tune_fraction=0.1,
        test="test",
    )
    return smoke(config) if args.smoke else config
