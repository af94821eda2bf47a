"""FGVC-Aircraft: 100 variants of aircraft.

    aft-jax extract --config=configs/fgvc_aircraft.py
    aft-jax train   --config=configs/fgvc_aircraft.py --workdir=runs/fgvc_aircraft-aft
    aft-jax compare --config=configs/fgvc_aircraft.py --workdir=runs/fgvc_aircraft-compare

6,667 images to train on, 3,333 to test. Tune is a tenth of train, carved out by a hash of the id.

TensorFlow Datasets has no such builder, so this reads the images of the published archive through
two CSV files. Unpack fgvc-aircraft-2013b.tar.gz in data/, then write them:

    cd data/fgvc-aircraft-2013b/data
    for split in trainval test; do
      (echo image,label; sed 's| |.jpg,|; s|^|images/|' images_variant_$split.txt) > $split.csv
    done

The photographer's name below every image is left in.

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
        name="fgvc_aircraft",
        source="csv",
        path="data/fgvc-aircraft-2013b/data",
        train="trainval",
        tune="",
        tune_fraction=0.1,
        test="test",
    )
    return smoke(config) if args.smoke else config
