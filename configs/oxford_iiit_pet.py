"""Oxford-IIIT Pets: 37 breeds of cats and dogs.

    aft-jax extract --config=configs/oxford_iiit_pet.py
    aft-jax train   --config=configs/oxford_iiit_pet.py --workdir=runs/oxford_iiit_pet-aft
    aft-jax compare --config=configs/oxford_iiit_pet.py --workdir=runs/oxford_iiit_pet-compare

3,680 images to train on, 3,669 to test. Tune is a tenth of train, carved out by a hash of the id.

oxford_iiit_pet names a builder of TensorFlow Datasets; prepare it once with `tfds build
oxford_iiit_pet`, which needs TensorFlow, or copy a prepared one. Reading it needs none.

Lab note. Not measured here yet: the weights of the students are on the Hugging Face hub.
"""

import ml_collections

from aft_jax.config.file import parse_arguments
from configs.common import smoke, vision


def get_config(arguments: str = "") -> ml_collections.ConfigDict:
    """The config.

    Args:
        arguments: "student=vit_s,teachers=dinov2_g+clip_g,smoke": of
            `configs.students.VISION_STUDENTS`, of `configs.common.VISION_TEACHERS` joined by + or
            none; `smoke` shrinks all to seconds on generated data.

    Returns:
        The config.
    """
    args = parse_arguments(arguments, smoke=False, student="vit_s", teachers="dinov2_g+clip_g")
    config = vision(args.teachers, args.student)
    config.data.update(
        name="oxford_iiit_pet",
        source="tfds",
        path="oxford_iiit_pet",
        train="train",
        tune="",
        tune_fraction=0.1,
        test="test",
    )
    return smoke(config) if args.smoke else config
