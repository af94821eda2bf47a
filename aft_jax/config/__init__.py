"""The config of a run: its keys, the rules between them, and how a raw one becomes a `Config`."""

from aft_jax.config.keys import AugmentConfig as AugmentConfig
from aft_jax.config.keys import CompareConfig as CompareConfig
from aft_jax.config.keys import Config as Config
from aft_jax.config.keys import DataConfig as DataConfig
from aft_jax.config.keys import FeaturesConfig as FeaturesConfig
from aft_jax.config.keys import InputsConfig as InputsConfig
from aft_jax.config.keys import OptimConfig as OptimConfig
from aft_jax.config.keys import StudentConfig as StudentConfig
from aft_jax.config.keys import SweepConfig as SweepConfig
from aft_jax.config.keys import TeacherConfig as TeacherConfig
from aft_jax.config.resolve import differing_keys as differing_keys
from aft_jax.config.resolve import read_inputs as read_inputs
from aft_jax.config.resolve import resolve as resolve
from aft_jax.config.resolve import to_json as to_json
from aft_jax.config.rules import BETA_RANGE as BETA_RANGE
