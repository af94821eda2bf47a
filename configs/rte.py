"""RTE: does a text entail a sentence?

    aft-jax extract --config=configs/rte.py
    aft-jax train   --config=configs/rte.py --workdir=runs/rte-aft
    aft-jax compare --config=configs/rte.py --workdir=runs/rte-compare

2,490 pairs to train on, 277 to test. The labels of GLUE's own test split are hidden, so its
validation split is the test split here, and tune is a tenth of train, carved out by a hash of the
id. nyu-mll/glue is on the Hugging Face hub.

Lab note. Not measured here yet: the weights of the students are on the Hugging Face hub.
"""

import ml_collections

from aft_jax.config.file import parse_arguments
from configs.common import smoke, text


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
    """The config.

    Args:
        arguments: "student=bert_small,teachers=flan_t5_l+gpt2_xl,smoke": of
            `configs.students.TEXT_STUDENTS`, of `configs.common.TEXT_TEACHERS` joined by + or
            none; `smoke` shrinks all to seconds on generated data.

    Returns:
        The config.
    """
    args = parse_arguments(arguments, smoke=False, student="bert_small", teachers="flan_t5_l")
    config = text(args.teachers, args.student, max_length=256)
    config.data.update(
        name="rte",
        source="huggingface",
        path="nyu-mll/glue:rte",
        template="rte",
        train="train",
        tune="",
        tune_fraction=0.1,
        test="validation",
    )
    return smoke(config) if args.smoke else config
