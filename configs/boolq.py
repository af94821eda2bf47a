"""BoolQ: does a passage of Wikipedia answer a question with yes or with no?

    aft-jax extract --config=configs/boolq.py
    aft-jax train   --config=configs/boolq.py --workdir=runs/boolq-aft
    aft-jax compare --config=configs/boolq.py --workdir=runs/boolq-compare

9,427 questions to train on. SuperGLUE hides the labels of the test split, so the validation split
of 3,270 is the test split here, and tune is a tenth of train, carved out by a hash of the id.
google/boolq is on the Hugging Face hub.

Lab note. Not measured here yet. The student starts from random weights and reads words without
their order: expect it below the published students, which are pre-trained. It also reads both texts
as one bag: expect little more than the larger class.
"""

import ml_collections

from aft_jax.config.file import parse_arguments
from configs.common import smoke, text


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
    """The config.

    Args:
        arguments: "teachers=flan_t5_l+gpt2_xl,smoke": names in `configs.common.TEXT_TEACHERS`
            joined by +, or none; `smoke` shrinks all to seconds on generated data.

    Returns:
        The config.
    """
    args = parse_arguments(arguments, smoke=False, teachers="flan_t5_l")
    config = text(args.teachers, max_length=512)
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
