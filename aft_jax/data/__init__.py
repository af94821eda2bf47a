"""Data sources, splits, what the student reads of an example, and the order of rows."""

from aft_jax.data.dataset import ArrayExamples as ArrayExamples
from aft_jax.data.dataset import Dataset as Dataset
from aft_jax.data.dataset import Example as Example
from aft_jax.data.dataset import Examples as Examples
from aft_jax.data.dataset import ids_digest as ids_digest
from aft_jax.data.dataset import joined as joined
from aft_jax.data.dataset import take as take
from aft_jax.data.inputs import Inputs as Inputs
from aft_jax.data.inputs import make_inputs as make_inputs
from aft_jax.data.inputs import prepare_examples as prepare_examples
from aft_jax.data.load import ROLES as ROLES
from aft_jax.data.load import load_split as load_split
from aft_jax.data.load import load_splits as load_splits
from aft_jax.data.load import load_uncarved as load_uncarved
from aft_jax.data.load import report_overlap as report_overlap
from aft_jax.data.loader import OfficialOrder as OfficialOrder
from aft_jax.data.loader import Order as Order
from aft_jax.data.loader import PaddedRows as PaddedRows
from aft_jax.data.loader import RowOrder as RowOrder
from aft_jax.data.loader import evaluation_batches as evaluation_batches
from aft_jax.data.loader import pick_views as pick_views
from aft_jax.data.loader import prefetched as prefetched
from aft_jax.data.loader import require_whole_batch as require_whole_batch
from aft_jax.data.records import Records as Records
from aft_jax.data.sources import SOURCES as SOURCES
from aft_jax.data.tokens import vocabulary_size as vocabulary_size
