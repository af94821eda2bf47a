"""The feature store: teachers' features on disk, bound to their teacher and their examples."""

from aft_jax.features.extract import extract as extract
from aft_jax.features.extract import store_path as store_path
from aft_jax.features.manifest import Manifest as Manifest
from aft_jax.features.manifest import describe as describe
from aft_jax.features.manifest import describe_teacher as describe_teacher
from aft_jax.features.manifest import read_manifest as read_manifest
from aft_jax.features.reader import FeatureStore as FeatureStore
from aft_jax.features.reader import join as join
from aft_jax.features.reader import open_store as open_store
from aft_jax.features.writer import write_store as write_store
