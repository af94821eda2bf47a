"""SST-2 with BERT-Small and Flan-T5 as teacher.

    aft-jax extract --config=configs/sst2_bert_small.py
    aft-jax train   --config=configs/sst2_bert_small.py --workdir=runs/sst2_bert_small-aft
    aft-jax compare --config=configs/sst2_bert_small.py --workdir=runs/sst2_bert_small-compare

Adam, batch 128, 5,000 steps, learning rate 1e-4, no weight decay, scales at 1e-2.
The data set is that of `configs/sst2.py`, whose docstring says how to get it; the
student is "bert_small" of `configs/students.py`.

Lab note. Not measured here yet: the weights of student and teachers are on the Hugging Face hub.
Over the 14 data sets and 5 students of the paper, AFT has 0.887 of plain fine-tuning's error.
"""

import ml_collections

from aft_jax.config.file import parse_arguments
from configs.sst2 import get_config as of_data_set


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
    """The config.

    Args:
        arguments: "teachers=flan_t5_l,smoke": of
            `configs.common.TEXT_TEACHERS` joined by + or none; `smoke` shrinks all to
            seconds on generated data.

    Returns:
        The config.
    """
    args = parse_arguments(arguments, smoke=False, teachers="flan_t5_l")
    return of_data_set(f"student=bert_small,teachers={args.teachers},smoke={args.smoke}")
