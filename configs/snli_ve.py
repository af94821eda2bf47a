"""SNLI-VE: does a photograph entail, contradict or leave open a sentence?

    aft-jax extract --config=configs/snli_ve.py
    aft-jax train   --config=configs/snli_ve.py --workdir=runs/snli_ve-aft
    aft-jax compare --config=configs/snli_ve.py --workdir=runs/snli_ve-compare

Photographs of Flickr30k with sentences of SNLI. Published as two data sets on the Hugging Face hub,
to be brought together once, in Python:

    import datasets

    names = {"train": "Multimodal-Fatima/SNLI-VE_train", "test": "Multimodal-Fatima/SNLI-VE_test"}
    parts = {split: datasets.load_dataset(name)[split] for split, name in names.items()}
    datasets.DatasetDict(parts).save_to_disk("data/snli_ve")

Tune is a tenth of the training pairs, carved out by a hash of the id. A photograph has several
sentences, so tune shares photographs with train and its accuracy is higher than that on test.

The teacher's two towers give one array of features each, combined by their tensor product.

Lab note. Not measured here yet: the weights of the students are on the Hugging Face hub.
"""

import ml_collections

from aft_jax.config.file import parse_arguments
from configs.common import pair, smoke


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
    """The config.

    Args:
        arguments: "student=clip_rn50,teachers=clip_l,smoke": of
            `configs.students.PAIR_STUDENTS`, of `configs.common.PAIR_TEACHERS` joined by + or
            none; `smoke` shrinks all to seconds on generated data.

    Returns:
        The config.
    """
    args = parse_arguments(arguments, smoke=False, student="clip_rn50", teachers="clip_l")
    config = pair(args.teachers, args.student)
    config.data.update(
        name="snli_ve",
        source="huggingface",
        path="data/snli_ve",
        template="snli_ve",
        train="train",
        tune="",
        tune_fraction=0.1,
        test="test",
    )
    return smoke(config) if args.smoke else config
