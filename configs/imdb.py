"""IMDB: is a film review positive or negative?

    aft-jax extract --config=configs/imdb.py
    aft-jax train   --config=configs/imdb.py --workdir=runs/imdb-aft
    aft-jax compare --config=configs/imdb.py --workdir=runs/imdb-compare

25,000 reviews to train on, 25,000 to test; the unlabelled ones are left out. Tune is a tenth of
train, carved out by a hash of the id. stanfordnlp/imdb is on the Hugging Face hub.

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
        name="imdb",
        source="huggingface",
        path="stanfordnlp/imdb",
        template="imdb",
        train="train",
        tune="",
        tune_fraction=0.1,
        test="test",
    )
    return smoke(config) if args.smoke else config
