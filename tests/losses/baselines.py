"""The losses that AFT is compared with, each as one case: how to call it and what it should give.

Every case is a loss of (params, student_features, teacher_features) with params as a tree of
arrays, and the reference of the same. Teachers are name -> array, concatenated in order of name.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from aft_jax.losses.maps import ft_loss, kd_loss, kkd_loss, no_kernel_loss
from aft_jax.losses.predictions import btune_loss
from aft_jax.losses.relations import cka_loss, spkd_loss
from aft_jax.losses.rkd import rkd_loss
from tests import reference

GOLDEN = np.load(
    pathlib.Path(__file__).parents[1] / "golden" / "official_float64.npz", allow_pickle=False
)
FT_LAYERS = {"first": "proj.0", "second": "proj.2", "third": "proj.4"}


class Case(NamedTuple):
    """One loss.

    Attributes:
        loss: (params, student, teachers, *, mask, axis_name) -> scalar, ours.
        expected: (params, student, teachers) -> scalar, the reference.
        params: (rng, d, widths of the teachers by name) -> params.
        golden: (kind) -> params of the published values, or their gradient, {} where they have
            none; kind is "param" or "grad_param". None where no values were published.
    """

    loss: Callable[..., Any]
    expected: Callable[..., Any]
    params: Callable[..., Any]
    golden: Callable[[str], Any] | None = None


def joined(teachers):
    return np.concatenate([teachers[name] for name in sorted(teachers)], axis=1)


def linear(loss, expected, shape_of, row):
    def params(rng, d, widths):
        rows, columns = shape_of(d, sum(widths.values()))
        weight = rng.normal(size=(rows, columns)) / np.sqrt(rows)
        return {"weight": weight, "bias": rng.normal(size=columns)}

    return Case(
        loss=lambda params, *features, **options: loss(
            params["weight"], params["bias"], *features, **options
        ),
        expected=lambda params, student, teachers: expected(
            params["weight"], params["bias"], student, joined(teachers)
        ),
        params=params,
        golden=lambda kind: published(row, kind, "proj"),
    )


def published(row, kind, layer):
    """A torch layer as ours: its weight is [out, in]."""
    place = f"{row}/{kind}/{layer}"
    return {"weight": GOLDEN[f"{place}.weight"].T, "bias": GOLDEN[f"{place}.bias"]}


def published_layers(kind):
    return {name: published("ft", kind, layer) for name, layer in FT_LAYERS.items()}


def ft_params(rng, d, widths):
    t = sum(widths.values())
    return {
        name: {"weight": rng.normal(size=shape), "bias": rng.normal(size=shape[1])}
        for name, shape in (("first", (d, d)), ("second", (d, t)), ("third", (t, t)))
    }


def ft_expected(params, student, teachers):
    layers = [(params[name]["weight"], params[name]["bias"]) for name in FT_LAYERS]
    return reference.ft_loss(layers, student, joined(teachers))


def btune_params(rng, d, widths):
    return {
        "student_weights": rng.normal(size=(3, d)),
        "teacher_weights": {name: rng.normal(size=(3, t)) for name, t in widths.items()},
        "scores": {name: np.asarray(rng.normal() / 10) for name in widths},
    }


def btune_expected(params, student, teachers):
    names = sorted(teachers)
    return reference.btune_loss(
        params["student_weights"],
        [params["teacher_weights"][name] for name in names],
        [params["scores"][name] for name in names],
        student,
        [teachers[name] for name in names],
    )


def btune_golden(kind):
    if kind == "grad_param":
        return {}
    teachers = {"a": "logme/teacher0", "b": "logme/teacher1"}
    return {
        "student_weights": GOLDEN["logme/student/weights"],
        "teacher_weights": {name: GOLDEN[f"{row}/weights"] for name, row in teachers.items()},
        "scores": {name: GOLDEN[f"{row}/score"] for name, row in teachers.items()},
    }


def relation(loss, expected, golden=None):
    return Case(
        loss=lambda params, *features, **options: loss(*features, **options),
        expected=lambda params, student, teachers: expected(student, joined(teachers)),
        params=lambda rng, d, widths: {},
        golden=golden,
    )


RELATIONS = {
    "rkd": relation(rkd_loss, reference.rkd_loss, golden=lambda kind: {}),
    "spkd": relation(spkd_loss, reference.spkd_loss),
    "cka": relation(cka_loss, reference.cka_loss),
}
CASES = {
    "aft_no_kernel": linear(
        no_kernel_loss, reference.no_kernel_loss, lambda d, t: (t, d), "aft_no_kernel"
    ),
    "kkd": linear(kkd_loss, reference.kkd_loss, lambda d, t: (d, d), "kkd"),
    "kd": linear(kd_loss, reference.kd_loss, lambda d, t: (d, t), "kd"),
    "ft": Case(ft_loss, ft_expected, ft_params, published_layers),
    "btune": Case(
        lambda params, *features, **options: btune_loss(
            params["student_weights"],
            params["teacher_weights"],
            params["scores"],
            *features,
            **options,
        ),
        btune_expected,
        btune_params,
        btune_golden,
    ),
    **RELATIONS,
}


def problem(name, batch=9, d=5, seed=0):
    """params, student and teachers in float64."""
    rng = np.random.default_rng(seed)
    widths = {"a": 3, "b": 4}
    student = rng.normal(size=(batch, d)) + 0.3
    teachers = {teacher: rng.normal(size=(batch, t)) - 0.4 for teacher, t in widths.items()}
    return CASES[name].params(rng, d, widths), student, teachers
