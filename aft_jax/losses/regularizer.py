"""The regularizer seam and its table: one shape for AFT, its ablations and the baselines.

A regularizer is two pure functions (see `aft_jax.types.Regularizer`); the training step knows none
by name. To add one, write its loss as a pure function, wrap it here in a factory whose keyword
arguments are its hyper-parameters, and enter the factory in `REGULARIZERS`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from aft_jax.losses.aft import aft_loss
from aft_jax.losses.baselines import no_kernel_loss
from aft_jax.losses.factors import tensor_product
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

    def apply(
        params, student_features, teacher_features, *, mask=None, logits=None
    ) -> tuple[Array, Metrics]:
        loss = aft_loss(
            params.get("scales"),
            student_features,
            teacher_features,
            kernel=kernel,
            combine=combine,
            mask=mask,
        )
        return loss, {"regularizer": _batch_mean(loss, student_features, mask)}

    return Regularizer(init, apply)


def no_kernel() -> Regularizer:
    """The ablation that matches features through a linear map instead of kernels.

    It compares single features: a student's factors are multiplied out to [b, d].

    Returns:
        The regularizer; its params are {"weight": [t, d], "bias": [d]} with t the widths' sum.
    """

    def init(key: Array, spec: FeatureSpec) -> PyTree:
        width = sum(spec.teacher_dims.values())
        weight = jax.nn.initializers.lecun_normal()(key, (width, spec.student_dim), jnp.float32)
        return {"weight": weight, "bias": jnp.zeros((spec.student_dim,), jnp.float32)}

    def apply(
        params, student_features, teacher_features, *, mask=None, logits=None
    ) -> tuple[Array, Metrics]:
        dtype = params["weight"].dtype
        teachers = [teacher_features[name].astype(dtype) for name in sorted(teacher_features)]
        student = jax.tree.map(lambda array: array.astype(dtype), student_features)
        kept = None if mask is None else mask.astype(dtype)
        loss = no_kernel_loss(
            params["weight"],
            params["bias"],
            tensor_product(student, kept),
            jnp.concatenate(teachers, axis=1),
            mask=kept,
        )
        return loss, {"regularizer": _batch_mean(loss, student_features, mask)}

    return Regularizer(init, apply)


REGULARIZERS: Mapping[str, Callable[..., Regularizer]] = {
    "stl": stl,
    "aft": aft,
    "aft_rbf": functools.partial(aft, kernel="rbf"),
    "aft_dense": functools.partial(aft, scales="dense"),
    "aft_uniform": functools.partial(aft, scales="uniform"),
    "aft_no_kernel": no_kernel,
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


def _batch_mean(loss: Array, features: StudentFeatures, mask: Array | None) -> Metric:
    """A per-batch number as a (sum, count) state, weighted by the rows it stands for."""
    kept = jnp.ones_like(jax.tree.leaves(features)[0][:, 0]) if mask is None else mask
    rows = jnp.sum(kept.astype(loss.dtype))
    return loss * rows, rows
