"""The feature store: teachers' features on disk, bound to their teacher and their examples."""

from aft_jax.features.choice import free_memory as free_memory
from aft_jax.features.combined import one_after_another as one_after_another
from aft_jax.features.combined import side_by_side as side_by_side
from aft_jax.features.describe import describe as describe
from aft_jax.features.describe import describe_teacher as describe_teacher
from aft_jax.features.describe import describe_views as describe_views
from aft_jax.features.describe import expected_fields as expected_fields
from aft_jax.features.describe import store_path as store_path
from aft_jax.features.extract import extract as extract
from aft_jax.features.listing import StoreRecord as StoreRecord
from aft_jax.features.listing import format_stores as format_stores
from aft_jax.features.listing import list_stores as list_stores
from aft_jax.features.manifest import Manifest as Manifest
from aft_jax.features.manifest import has_store as has_store
from aft_jax.features.manifest import read_manifest as read_manifest
from aft_jax.features.official import import_official as import_official
from aft_jax.features.official_export import export_official as export_official
from aft_jax.features.reader import FeatureStore as FeatureStore
from aft_jax.features.reader import join as join
from aft_jax.features.reader import open_store as open_store
from aft_jax.features.residency import TeacherFeatures as TeacherFeatures
from aft_jax.features.residency import load_features as load_features
from aft_jax.features.shard_buffer import write_store as write_store
from aft_jax.features.verify import verify as verify
from aft_jax.features.whole import WholeFeatures as WholeFeatures
from aft_jax.features.whole import read_whole as read_whole
