"""The regularizer seam and its table: one shape for AFT, its ablations and the baselines.

A regularizer is two pure functions (see `aft_jax.types.Regularizer`); the training step knows none
by name. To add one, write its loss as a pure function, wrap it here in a factory whose keyword
arguments are its hyper-parameters (`from_loss` gives it the seam's shape), and enter the factory in
`REGULARIZERS`. Methods that are fitted before training have their own table.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from aft_jax.losses.aft import aft_loss
from aft_jax.losses.map_parameters import init_linear_map
from aft_jax.losses.maps import kd_loss, kkd_loss, no_kernel_loss
from aft_jax.losses.relations import cka_loss, spkd_loss
from aft_jax.losses.rkd import rkd_loss
from aft_jax.losses.scales import init_dense_scales, init_scales
from aft_jax.losses.validation import COMBINATIONS, KERNELS, check_choice
from aft_jax.types import (
    Array,
    FeatureSpec,
    Metric,
    Metrics,
    PyTree,
    Regularizer,
    StudentFeatures,
)


def stl() -> Regularizer:
    """Plain fine-tuning (standard transfer learning): no parameters, zero loss, teachers unread."""

    def init(key: Array, spec: FeatureSpec) -> PyTree:
        return {}

    def apply(
        params, student_features, teacher_features, *, mask=None, logits=None
    ) -> tuple[Array, Metrics]:
        return jnp.zeros((), jnp.float32), {}

    return Regularizer(init, apply, reads_teachers=False)


def aft(kernel: str = "linear", combine: str = "concat", scales: str = "diagonal") -> Regularizer:
    """Adaptive Feature Transfer: see `aft_loss`.

    Args:
        kernel: "linear" or "rbf".
        combine: how several teachers become one, "concat" or "product".
        scales: "diagonal" gates, "dense" matrices or "uniform" (nothing learned).

    Returns:
        The regularizer; its params are {"scales": teacher name -> array}, or {} for uniform scales.

    Raises:
        ValueError: `kernel`, `combine` or `scales` is unknown.
    """
    check_choice("kernel", kernel, KERNELS)
    check_choice("combine", combine, COMBINATIONS)
    makers = {"diagonal": init_scales, "dense": init_dense_scales, "uniform": None}
    check_choice("scales", scales, tuple(makers))
    make = makers[scales]

    def init(key: Array, spec: FeatureSpec) -> PyTree:
        return {} if make is None else {"scales": make(spec.teacher_dims)}

    def loss(params, *features, mask) -> Array:
        gates = params.get("scales")
        return aft_loss(gates, *features, kernel=kernel, combine=combine, mask=mask)

    return from_loss(loss, init)


def no_kernel() -> Regularizer:
    """The ablation of AFT that maps the teachers' features to the student's: `no_kernel_loss`.

    Returns:
        The regularizer; its params are {"weight": [t, d], "bias": [d]} with t the widths' sum.
    """
    return _with_map(
        no_kernel_loss, lambda spec: (_teacher_width(spec), spec.student_dim), "aft_no_kernel"
    )


def kkd() -> Regularizer:
    """Kernel knowledge distillation, AFT's kernel after a map of the student's: `kkd_loss`.

    Returns:
        The regularizer; its params are {"weight": [d, d], "bias": [d]}.
    """
    return _with_map(kkd_loss, lambda spec: (spec.student_dim, spec.student_dim), "kkd")


def kd() -> Regularizer:
    """Knowledge distillation, a map of the student's features to the teachers': `kd_loss`.

    Returns:
        The regularizer; its params are {"weight": [d, t], "bias": [t]} with t the widths' sum.
    """
    return _with_map(kd_loss, lambda spec: (spec.student_dim, _teacher_width(spec)), "kd")


def rkd(angle_weight: float = 2.0) -> Regularizer:
    """Relational knowledge distillation, of distances and angles within the batch: `rkd_loss`.

    Args:
        angle_weight: of the angles against the distances.

    Returns:
        The regularizer, without params.

    Raises:
        ValueError: the weight is not finite or negative.
    """
    if not isinstance(angle_weight, int | float) or not 0 <= angle_weight < float("inf"):
        raise ValueError(f"angle_weight is a finite number, at least 0; got {angle_weight!r}.")
    return _without_params(functools.partial(rkd_loss, angle_weight=angle_weight))


def spkd() -> Regularizer:
    """Similarity-preserving knowledge distillation, of uncentred kernels: `spkd_loss`.

    Returns:
        The regularizer, without params.
    """
    return _without_params(spkd_loss)


def cka() -> Regularizer:
    """One minus the centred kernel alignment of student and teachers: `cka_loss`.

    Returns:
        The regularizer, without params.
    """
    return _without_params(cka_loss)


REGULARIZERS: Mapping[str, Callable[..., Regularizer]] = {
    "stl": stl,
    "aft": aft,
    "aft_rbf": functools.partial(aft, kernel="rbf"),
    "aft_dense": functools.partial(aft, scales="dense"),
    "aft_uniform": functools.partial(aft, scales="uniform"),
    "aft_no_kernel": no_kernel,
    "kkd": kkd,
    "kd": kd,
    "rkd": rkd,
    "spkd": spkd,
    "cka": cka,
}


def make_regularizer(name: str, **options: Any) -> Regularizer:
    """Builds a regularizer by its name in `REGULARIZERS`.

    Args:
        name: the method.
        **options: the factory's keyword arguments.

    Returns:
        The regularizer.

    Raises:
        ValueError: no method has that name; the message lists those that exist.
    """
    if name not in REGULARIZERS:
        raise ValueError(f"method is one of {', '.join(REGULARIZERS)}; got {name!r}.")
    return REGULARIZERS[name](**options)


def from_loss(
    loss: Callable[..., Array], init: Callable[[Array, FeatureSpec], PyTree]
) -> Regularizer:
    """Gives a loss the seam's shape, with its mean over the rows that count as the metric.

    Args:
        loss: (params, student_features, teacher_features, *, mask) -> scalar.
        init: (key, FeatureSpec) -> params.

    Returns:
        The regularizer.
    """

    def apply(
        params, student_features, teacher_features, *, mask=None, logits=None
    ) -> tuple[Array, Metrics]:
        value = loss(params, student_features, teacher_features, mask=mask)
        return value, {"regularizer": batch_mean(value, student_features, mask)}

    return Regularizer(init, apply)


def on_mesh(regularizer: Regularizer, mesh: jax.sharding.Mesh) -> Regularizer:
    """A regularizer that knows the devices its arrays are spread over: see `losses/grid.py`.

    Args:
        regularizer: any.
        mesh: the devices.

    Returns:
        The same numbers.
    """

    def apply(*arguments, **keywords) -> tuple[Array, Metrics]:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return regularizer.apply(*arguments, **keywords)

    return regularizer._replace(apply=apply)


def batch_mean(loss: Array, features: StudentFeatures, mask: Array | None) -> Metric:
    """A per-batch number as a (sum, count) state, weighted by the rows it stands for.

    Args:
        loss: a scalar.
        features: [b, d], or name -> [b, d_name]; only their rows are counted.
        mask: [b] rows with 0 do not count; None counts all.

    Returns:
        (loss times rows, rows).
    """
    kept = jnp.ones_like(jax.tree.leaves(features)[0][:, 0]) if mask is None else mask
    rows = jnp.sum(kept.astype(loss.dtype))
    return loss * rows, rows


def _with_map(
    loss: Callable[..., Array], shape_of: Callable[[FeatureSpec], tuple[int, int]], method: str
) -> Regularizer:
    """A loss of (weight, bias, student, teacher)."""

    def init(key: Array, spec: FeatureSpec) -> PyTree:
        return init_linear_map(key, *shape_of(spec), method)

    def of_params(params, *features, mask) -> Array:
        return loss(params["weight"], params["bias"], *features, mask=mask)

    return from_loss(of_params, init)


def _without_params(loss: Callable[..., Array]) -> Regularizer:
    """A loss of (student, teacher)."""

    def of_params(params, *features, mask) -> Array:
        return loss(*features, mask=mask)

    return from_loss(of_params, lambda key, spec: {})


def _teacher_width(spec: FeatureSpec) -> int:
    return sum(spec.teacher_dims.values())
