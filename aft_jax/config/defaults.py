"""Every key of a config with a value to start from; a config file changes what is its own."""

from typing import Any

import ml_collections

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def base_config() -> Any:
    """A whole config: plain fine-tuning of `small_cnn`, without data set or teachers.

    Returns:
        A `ConfigDict` with every key that `aft_jax.config.Config` has.
    """
    config: Any = ml_collections.ConfigDict()
    config.seed = 0  # initial weights, order of rows
    config.data = {
        "name": "",  # in stores and reports
        "source": "",  # tfds, huggingface, image_folder, csv, jsonl, parquet, arrays, ...
        "path": "",  # builder, hub id, directory or file pattern
        "task": "",
        "train": "train",  # split to train on
        "tune": "tune",  # split that may choose anything; "" carves it out of train
        "test": "test",  # split that is evaluated once
        "tune_fraction": 0.0,  # of train, where tune is ""
        "columns": {},
        "template": "",  # how several columns become one text
        "on_error": "raise",  # or skip
    }
    config.inputs = {
        "kind": "array",  # array, image, text, image_text
        "image_size": 224,  # pixels
        "image_fit": "stretch",  # or crop
        "mean": IMAGENET_MEAN,  # of pixels in [0, 1]
        "std": IMAGENET_STD,
        "tokenizer": "",  # directory or hub id
        "max_length": 128,  # tokens
        "buckets": (32, 64, 128),  # tokens
    }
    config.augment = {"min_area": 0.5, "flip": True}  # share of the image; half of the views
    config.views = 0  # stored augmented versions of each image
    config.student = {
        "name": "small_cnn",
        "options": {},
        "init_from": "",  # run directory
        "pretrained": "",  # hub id or directory of public weights
        "revision": "",  # of that hub id
    }
    config.teachers = ml_collections.ConfigDict()
    config.features = {
        "directory": "runs/features",
        "splits": ("train", "tune"),  # test is for fconcat and export-official
        "dtype": "float32",  # or bfloat16
        "batch_size": 256,  # rows a teacher sees at once
        "threads": 4,  # that prepare its batches
        "processes": 1,  # hosts that extract together
        "process": 0,  # which of them this is
        "missing": "error",  # or skip
        "residency": "auto",  # or device, host, stream
    }
    config.method = "stl"
    config.method_options = ml_collections.ConfigDict()
    config.beta = 0.0  # strength of the regularizer
    config.batch_size = 128  # rows of the global batch
    config.steps = 5000  # optimizer steps
    config.log_every = 50  # steps
    config.eval_every = 500  # steps
    config.checkpoint_every = 500  # steps
    config.devices = 0  # 0: all
    config.steps_per_call = 1  # steps
    config.accumulation_steps = 1  # micro-batches of a step
    config.precision = "float32"  # or bfloat16, float16
    config.state_sharding = "replicated"  # or sharded
    config.inputs_residency = "auto"  # or device, host
    config.optim = {
        "learning_rate": 1e-3,  # peak
        "weight_decay": 0.0,
        "scales_learning_rate": 1e-2,  # peak, for the learned scales
        "warmup_steps": 0,  # steps
    }
    config.compare = {
        "methods": ("stl", "aft"),
        "betas": (1.0, 3.0, 10.0, 30.0, 100.0),
        "search_seeds": (100, 101, 102),
        "seeds": (0, 1, 2, 3, 4),
        "method_options": {},
    }
    config.sweep = {
        "tuner": "grid",  # or population, online
        "betas": (1.0, 3.0, 10.0, 30.0, 100.0),
        "teachers": ("all",),  # names joined by +, all, each, leave_one_out
        "seeds": (0, 1, 2),
        "together": 0,  # trials in one program; 0: as many as fit
        "scheduler": "local",  # or ray
        "interval": 100,  # steps between exchanges of a population
        "factor": 2.0,  # by which a population moves beta
        "beta_learning_rate": 10.0,  # of log beta, online
        "retrain": False,  # the chosen setting again, on train and tune
    }
    config.official_quirks = False
    return config


def teacher(kind: str, source: str, **changes: Any) -> dict[str, Any]:
    """One entry of `config.teachers`, every key filled in.

    Args:
        kind: teacher family.
        source: what the family loads it from.
        **changes: other keys of `aft_jax.config.TeacherConfig`.

    Returns:
        The entry.
    """
    return {
        "kind": kind,
        "source": source,
        "revision": "",
        "pooling": "",
        "layers": (),
        "tower": "",
        "dtype": "float32",
        "max_length": 0,
        "trust_remote_code": False,
        "options": {},
    } | changes
