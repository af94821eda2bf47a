"""The teachers' kernel taken apart: what each teacher contributes, and what is left without it.

Teachers that are concatenated have a kernel that is a sum: with T' the centred unit rows of all
scaled features side by side and T'_m the columns of teacher m,

    K_t = sum_m K_m,  K_m = T'_m T'_m^T,    share_m = <K_m, K_t>_F / |K_t|_F^2

so the shares add up to one. Teachers that are multiplied have no such sum.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from aft_jax.losses.factors import cosine_kernel_of
from aft_jax.losses.kernels import centred_unit_rows
from aft_jax.losses.scales import scaled
from aft_jax.types import Float

Features = Mapping[str, Float[np.ndarray, "b _"]]
"""Teacher name -> its features of b examples, its scales applied."""


def scaled_features(
    features: Mapping[str, np.ndarray], scales: Mapping[str, np.ndarray]
) -> Features:
    """Every teacher's features after the scales that a run learned, in float32.

    Args:
        features: teacher name -> [b, t], any float dtype.
        scales: teacher name -> [t] logits or [t, s] map; a teacher without an entry has none.

    Returns:
        Teacher name -> [b, t] or [b, s], in order of name. Where one map takes all teachers side by
        side, as in the published code, they are one, "a+b".
    """
    together = "+".join(sorted(features))
    if together in scales:
        columns = [np.asarray(features[name], np.float32) for name in sorted(features)]
        features = {together: np.concatenate(columns, axis=1)}
    found = {}
    for name in sorted(features):
        scale = jnp.asarray(scales[name]) if name in scales else None
        found[name] = np.asarray(scaled(scale, jnp.asarray(features[name], jnp.float32)))
    return found


def combined_kernel(features: Features, combine: str) -> Float[np.ndarray, "b b"]:
    """The cosine kernel of all teachers together.

    Args:
        features: of at least one teacher.
        combine: "concat" or "product", see `aft_jax.aft_loss`.

    Returns:
        [b, b].
    """
    parts = [jnp.asarray(features[name]) for name in sorted(features)]
    if combine == "concat":
        parts = [jnp.concatenate(parts, axis=1)]
    return np.asarray(cosine_kernel_of(parts, jnp.ones_like(parts[0][:, 0])).values)


def kernels_without(features: Features, combine: str) -> dict[str, Float[np.ndarray, "b b"]]:
    """The kernel of all teachers but one, for each of them.

    Args:
        features: of the teachers.
        combine: "concat" or "product".

    Returns:
        The teacher left out -> [b, b]; empty where there is only one.
    """
    if len(features) < 2:
        return {}
    return {
        name: combined_kernel({k: v for k, v in features.items() if k != name}, combine)
        for name in features
    }


def kernel_shares(features: Features) -> dict[str, float]:
    """Each teacher's share of the kernel of concatenated teachers; see the module.

    Args:
        features: of the teachers.

    Returns:
        Teacher name -> share; they add up to one. Empty where the kernel is zero.
    """
    names = sorted(features)
    together = jnp.concatenate([jnp.asarray(features[name]) for name in names], axis=1)
    rows = np.asarray(centred_unit_rows(together, jnp.ones_like(together[:, 0])), np.float64)
    whole = rows @ rows.T
    norm = float((whole**2).sum())
    if norm == 0:
        return {}
    edges = np.cumsum([features[name].shape[1] for name in names])[:-1]
    blocks = zip(names, np.split(rows, edges, axis=1), strict=True)
    return {name: float(((block @ block.T) * whole).sum()) / norm for name, block in blocks}
