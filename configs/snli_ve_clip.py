"""SNLI-VE with CLIP's ResNet-50 and its text tower, and the larger CLIP as teacher.

    aft-jax extract --config=configs/snli_ve_clip.py
    aft-jax train   --config=configs/snli_ve_clip.py --workdir=runs/snli_ve_clip-aft
    aft-jax compare --config=configs/snli_ve_clip.py --workdir=runs/snli_ve_clip-compare

Adam, batch 128, 5,000 steps, learning rate 1e-5, no weight decay, scales at 1e-2.
The data set is that of `configs/snli_ve.py`, whose docstring says how to get it; the
student is "clip_rn50" of `configs/students.py`.

Lab note. Not measured here yet: the weights of student and teachers are on the Hugging Face hub.
Over the 14 data sets and 5 students of the paper, AFT has 0.887 of plain fine-tuning's error.
"""

import ml_collections

from aft_jax.config.file import parse_arguments
from configs.snli_ve import get_config as of_data_set


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
    """The config.

    Args:
        arguments: "teachers=clip_l,smoke": of
            `configs.common.PAIR_TEACHERS` joined by + or none; `smoke` shrinks all to
            seconds on generated data.

    Returns:
        The config.
    """
    args = parse_arguments(arguments, smoke=False, teachers="clip_l")
    return of_data_set(f"student=clip_rn50,teachers={args.teachers},smoke={args.smoke}")
