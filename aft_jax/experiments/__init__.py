"""Experiments: what a comparison measured, what its numbers say, and the page that shows it."""

from aft_jax.experiments.compare import compare as compare
from aft_jax.experiments.rank import rank as rank
from aft_jax.experiments.ranking import format_ranking as format_ranking
from aft_jax.experiments.report import report as report
from aft_jax.experiments.soup import soup as soup
from aft_jax.experiments.sweep import sweep as sweep
