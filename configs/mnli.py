"""MNLI: does a sentence entail, contradict or leave open another?

    aft-jax extract --config=configs/mnli.py
    aft-jax train   --config=configs/mnli.py --workdir=runs/mnli-aft
    aft-jax compare --config=configs/mnli.py --workdir=runs/mnli-compare

392,702 pairs to train on, 9,815 to test. The labels of GLUE's own test split are hidden, so its
validation split ("validation_matched") is the test split here, and tune is a tenth of train, carved
out by a hash of the id. nyu-mll/glue is on the Hugging Face hub.

Four times the steps of the other data sets, as in the published code.

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
        name="mnli",
        source="huggingface",
        path="nyu-mll/glue:mnli",
        template="mnli",
        train="train",
        tune="",
        tune_fraction=0.1,
        test="validation_matched",
    )
    config.steps = 20_000
    return smoke(config) if args.smoke else config
