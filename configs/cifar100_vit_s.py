"""CIFAR-100 with ViT-S/16, which ImageNet has trained, and two giants as teachers.

    aft-jax extract --config=configs/cifar100_vit_s.py
    aft-jax train   --config=configs/cifar100_vit_s.py --workdir=runs/cifar100_vit_s-aft
    aft-jax compare --config=configs/cifar100_vit_s.py --workdir=runs/cifar100_vit_s-compare

Adam, batch 128, 5,000 steps, learning rate 1e-4, no weight decay, scales at 1e-2.
The data set is that of `configs/cifar100.py`, whose docstring says how to get it; the
student is "vit_s" of `configs/students.py`.

Lab note. Not measured here yet: the weights of student and teachers are on the Hugging Face hub.
Over the 14 data sets and 5 students of the paper, AFT has 0.887 of plain fine-tuning's error.
"""

import ml_collections

from aft_jax.config.file import parse_arguments
from configs.cifar100 import get_config as of_data_set


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
    return of_data_set(f"student=vit_s,teachers={args.teachers},smoke={args.smoke}")
