"""WNLI: does a sentence stay true when a pronoun in it is resolved?

    aft-jax extract --config=configs/wnli.py
    aft-jax train   --config=configs/wnli.py --workdir=runs/wnli-aft
    aft-jax compare --config=configs/wnli.py --workdir=runs/wnli-compare

635 pairs to train on, 71 to test. The labels of GLUE's own test split are hidden, so its validation
split is the test split here, and tune is a tenth of train, carved out by a hash of the id.
nyu-mll/glue is on the Hugging Face hub.

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
    config = text(args.teachers, args.student)
    config.data.update(
        name="wnli",
        source="huggingface",
        path="nyu-mll/glue:wnli",
        template="wnli",
        train="train",
        tune="",
        tune_fraction=0.1,
        test="validation",
    )
    return smoke(config) if args.smoke else config
