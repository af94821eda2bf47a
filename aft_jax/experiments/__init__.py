"""Experiments: what a comparison measured, what its numbers say, and the page that shows it."""

from aft_jax.experiments.comparison.compare import compare as compare
from aft_jax.experiments.ranking.rank import rank as rank
from aft_jax.experiments.ranking.table import format_ranking as format_ranking
from aft_jax.experiments.reporting.report import report as report
from aft_jax.experiments.soups.soup import soup as soup
from aft_jax.experiments.sweeping.sweep import sweep as sweep
