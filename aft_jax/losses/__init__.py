"""The kernel loss and its relatives: pure functions of arrays. Imports only jax."""

from aft_jax.losses.aft import aft_loss as aft_loss
from aft_jax.losses.scales import gates as gates
from aft_jax.losses.scales import init_dense_scales as init_dense_scales
from aft_jax.losses.scales import init_scales as init_scales
