"""Oxford Flowers with ResNet-50, which ImageNet has trained, and two giants as teachers.

    aft-jax extract --config=configs/flowers_resnet50.py
    aft-jax train   --config=configs/flowers_resnet50.py --workdir=runs/flowers_resnet50-aft
    aft-jax compare --config=configs/flowers_resnet50.py --workdir=runs/flowers_resnet50-compare

Adam, batch 128, 5,000 steps, learning rate 1e-3, no weight decay, scales at 1e-2.
The data set is that of `configs/oxford_flowers102.py`, whose docstring says how to get it; the
student is "resnet50" of `configs/students.py`.

Lab note. Not measured here yet: the weights of student and teachers are on the Hugging Face hub.
Over the 14 data sets and 5 students of the paper, AFT has 0.887 of plain fine-tuning's error.
"""

import ml_collections

from aft_jax.config.file import parse_arguments
from configs.oxford_flowers102 import get_config as of_data_set


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
    """The config.

    Args:
        arguments: "teachers=dinov2_g+clip_g,smoke": of
            `configs.common.VISION_TEACHERS` joined by + or none; `smoke` shrinks all to
            seconds on generated data.

    Returns:
        The config.
    """
    args = parse_arguments(arguments, smoke=False, teachers="dinov2_g+clip_g")
    return of_data_set(f"student=resnet50,teachers={args.teachers},smoke={args.smoke}")
