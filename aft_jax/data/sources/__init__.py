"""Where examples come from: one function per kind of source, all with one signature."""

from collections.abc import Callable, Mapping

from aft_jax.config import DataConfig
from aft_jax.data.records import Records
from aft_jax.data.sources.arrays import load_arrays
from aft_jax.data.sources.digits import digits
from aft_jax.data.sources.generated import generated
from aft_jax.data.sources.huggingface_source import load_huggingface
from aft_jax.data.sources.image_folder import load_image_folder
from aft_jax.data.sources.tables import load_csv, load_jsonl, load_parquet
from aft_jax.data.sources.tfds_source import load_tfds

SOURCES: Mapping[str, Callable[[DataConfig, str], Records]] = {
    "arrays": load_arrays,
    "csv": load_csv,
    "digits": digits,
    "generated": generated,
    "huggingface": load_huggingface,
    "image_folder": load_image_folder,
    "jsonl": load_jsonl,
    "parquet": load_parquet,
    "tfds": load_tfds,
}
"""Source name -> function of (config, name of one of its splits)."""
