"""The trainer: optimizer, sharding, state, step, metrics, checkpoints and the loop around them."""

from aft_jax.training.evaluate import evaluate as evaluate
from aft_jax.training.experiment import Experiment as Experiment
from aft_jax.training.experiment import build as build
from aft_jax.training.predictions import Predictions as Predictions
from aft_jax.training.predictions import load_predictions as load_predictions
from aft_jax.training.trainer import train as train
