"""Scores of features given labels: which teachers tell the classes apart, before any training.

Pure functions of host arrays; rows without label are left out. Larger is better throughout.
"""

from aft_jax.scores.alignment import alignment as alignment
from aft_jax.scores.combine import combined as combined
from aft_jax.scores.cross_validation import FOLDS as FOLDS
from aft_jax.scores.cross_validation import CrossValidation as CrossValidation
from aft_jax.scores.cross_validation import cross_validate as cross_validate
from aft_jax.scores.h_score import h_score as h_score
from aft_jax.scores.logme import LogME as LogME
from aft_jax.scores.logme import logme as logme
from aft_jax.scores.osborn import Osborn as Osborn
from aft_jax.scores.osborn import osborn as osborn
from aft_jax.scores.ped import ped as ped
from aft_jax.scores.probe import Probe as Probe
from aft_jax.scores.probe import choose_probe as choose_probe
from aft_jax.scores.probe import fit_probe as fit_probe
from aft_jax.scores.summary import Scores as Scores
from aft_jax.scores.summary import score as score
from aft_jax.scores.tmi import tmi as tmi
