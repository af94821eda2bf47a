"""The kernel loss and its relatives: pure functions of arrays. Imports only jax."""

from aft_jax.losses.aft import aft_loss as aft_loss
from aft_jax.losses.map_parameters import init_ft_map as init_ft_map
from aft_jax.losses.map_parameters import init_linear_map as init_linear_map
from aft_jax.losses.maps import ft_loss as ft_loss
from aft_jax.losses.maps import kd_loss as kd_loss
from aft_jax.losses.maps import kkd_loss as kkd_loss
from aft_jax.losses.maps import no_kernel_loss as no_kernel_loss
from aft_jax.losses.predictions import btune_loss as btune_loss
from aft_jax.losses.predictions import logit_distillation_loss as logit_distillation_loss
from aft_jax.losses.relations import cka_loss as cka_loss
from aft_jax.losses.relations import spkd_loss as spkd_loss
from aft_jax.losses.rkd import rkd_loss as rkd_loss
from aft_jax.losses.scales import gates as gates
from aft_jax.losses.scales import init_dense_scales as init_dense_scales
from aft_jax.losses.scales import init_scales as init_scales
