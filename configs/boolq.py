"""BoolQ: does a passage of Wikipedia answer a question with yes or with no?

    aft-jax extract --config=configs/boolq.py
    aft-jax train   --config=configs/boolq.py --workdir=runs/boolq-aft
    aft-jax compare --config=configs/boolq.py --workdir=runs/boolq-compare

9,427 questions to train on. SuperGLUE hides the labels of the test split, so the validation split
of 3,270 is the test split here, and tune is a tenth of train, carved out by a hash of the id.
google/boolq is on the Hugging Face hub.

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
    config = text(args.teachers, args.student, max_length=512)
    config.data.update(
        name="boolq",
        source="huggingface",
        path="google/boolq",
        template="boolq",
        train="train",
        tune="",
        tune_fraction=0.1,
        test="validation",
        columns={"label": "answer"},
    )
    return smoke(config) if args.smoke else config
