"""Finding a builder of TensorFlow Datasets, and preparing its data where they are not there."""

import importlib
import os
from typing import Any

from aft_jax.data.sources.storage import location, unreadable
from aft_jax.errors import ConfigError, DataError

COLLECTIONS = ("image_classification", "text", "question_answering", "vision_language")
"""Parts of TFDS whose builders have names only once the part is imported."""


def find_builder(path: str) -> Any:
    """The builder of a data set that is prepared on disk, after preparing it if it was not.

    Args:
        path: a builder's name ("cifar10", "glue/sst2", "name:1.0.0") or the directory of a
            prepared version.

    Returns:
        A `tfds.core.DatasetBuilder`.

    Raises:
        ConfigError: a package is not installed.
        DataError: there is no such data set, or it cannot be prepared.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ConfigError(
            "config.data.source = 'tfds' needs the package tensorflow-datasets; install "
            "pip install 'aft_jax[data]'."
        ) from error
    if _is_prepared(path):
        return tfds.builder_from_directory(path)
    # Builders are other people's code that runs on the network: any error can come out of them.
    try:
        builder = _named(path)
        if not builder.is_prepared():
            builder = _named(path, file_format="array_record")
            builder.download_and_prepare()
    except ImportError as error:
        raise ConfigError(
            f"config.data.path = {path!r} is a data set that has to be prepared first, which needs "
            f"the package {error.name or 'tensorflow'}; install it: pip install "
            f"{error.name or 'tensorflow'}. Or prepare it on another machine (tfds build {path} "
            "--file_format=array_record) and bring the directory."
        ) from error
    except Exception as error:
        raise DataError(
            f"config.data.path is a data set of TFDS, or a directory with the dataset_info.json of "
            f"a prepared one; {path!r} is not prepared in TFDS_DATA_DIR "
            f"({os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')}), and preparing it "
            f"failed: {_first_line(error)} Without network, prepare it elsewhere (tfds build "
            f"{path} --file_format=array_record) and bring the directory."
        ) from error
    return builder


def _is_prepared(path: str) -> bool:
    directory = location(path)
    try:
        return (directory / "dataset_info.json").exists()
    except Exception as error:
        raise unreadable(directory, error) from error


def _named(path: str, **options: Any) -> Any:
    import tensorflow_datasets as tfds

    options |= {"data_dir": os.environ["TFDS_DATA_DIR"]} if "TFDS_DATA_DIR" in os.environ else {}
    try:
        return tfds.builder(path, **options)
    except tfds.core.DatasetNotFoundError:
        for part in COLLECTIONS:
            importlib.import_module(f"tensorflow_datasets.{part}")
        return tfds.builder(path, **options)


def _first_line(error: Exception) -> str:
    """What an error says, without the lists that follow."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
