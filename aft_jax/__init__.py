"""Adaptive Feature Transfer in JAX: small students learn the useful part of large teachers."""

from aft_jax.losses import aft_loss as aft_loss
from aft_jax.losses import gates as gates
from aft_jax.losses import init_dense_scales as init_dense_scales
from aft_jax.losses import init_scales as init_scales
from aft_jax.version import __version__ as __version__
