"""Experiments: what a comparison measured, what its numbers say, and the page that shows it."""

from aft_jax.experiments.compare import compare as compare
from aft_jax.experiments.report import report as report
