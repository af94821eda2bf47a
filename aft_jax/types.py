"""The dimension alphabet, the array aliases and the records that pass between rooms.

Dimensions, one letter each, everywhere in the library:

    b  batch rows          d  student feature width     t  teacher feature width
    r  rows on one device  k  classes                   n  rows of a data set
    h, w, c  image         l  tokens

Shapes in signatures are jaxtyping annotations. They cost nothing in production: `import aft_jax`
pulls in jax and numpy only, and the names below stand for plain `jax.Array`. With
AFT_JAX_CHECK_SHAPES=1 in the environment (the tests set it) they are the real jaxtyping types, to
be checked at run time.
"""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsFloat

import jax

if TYPE_CHECKING or os.environ.get("AFT_JAX_CHECK_SHAPES") == "1":
    from jaxtyping import Array, Float, Int
else:
    from jax import Array

    class Float:
        """Stand-in for `jaxtyping.Float` that needs no jaxtyping and checks nothing."""

        def __class_getitem__(cls, item: Any) -> type[jax.Array]:
            return jax.Array

    Int = Float

__all__ = [
    "Array",
    "Batch",
    "FeatureSpec",
    "Float",
    "HostMetrics",
    "Int",
    "Metric",
    "Metrics",
    "PyTree",
    "Regularizer",
    "Student",
    "StudentFeatures",
    "StudentOutput",
]

PyTree = Any

Metric = tuple[jax.Array, jax.Array]
"""A mean that has not been divided yet: (sum, count). States add; the host divides once."""

Metrics = dict[str, Metric]

HostMetrics = Mapping[str, tuple[SupportsFloat, SupportsFloat]]
"""Metrics once they have left the device: each sum and count is anything with a float value."""


StudentFeatures = Float[Array, "r d"] | Mapping[str, Float[Array, "r _"]]
"""One array [b, d]; or name -> [b, d_name], the factors of one tensor product in order of name.

The product's width is d = prod d_name. A mapping with one entry is that entry.
"""


class StudentOutput(NamedTuple):
    """What a student returns for a batch.

    Attributes:
        logits: [b, k] class scores before the softmax.
        features: [b, d] pooled features, the ones that the regularizer reads; or their factors
            name -> [b, d_name], where they are a tensor product too wide to build.
    """

    logits: jax.Array
    features: PyTree  # StudentFeatures; most callers know which of the two they have


class Student(NamedTuple):
    """The student seam: two pure functions, whatever module system lies behind them.

    Attributes:
        init: (key, inputs) -> variables, a dict with at least the collection "params".
        apply: (variables, inputs, train, rngs) -> (StudentOutput, new_variables). `new_variables`
            has the structure of `variables`; only mutable collections (batch statistics) differ,
            and only when `train` is true. `rngs` maps stream names ("dropout") to keys.
    """

    init: Callable[[jax.Array, Any], PyTree]
    apply: Callable[[PyTree, Any, bool, Mapping[str, jax.Array]], tuple[StudentOutput, PyTree]]


class FeatureSpec(NamedTuple):
    """The widths a regularizer needs to make its parameters.

    Attributes:
        student_dim: d, the student's feature width; of factors, the product of their widths.
        teacher_dims: teacher name -> t, that teacher's feature width.
    """

    student_dim: int
    teacher_dims: Mapping[str, int]


class Regularizer(NamedTuple):
    """The regularizer seam: AFT, its ablations and every baseline have this shape.

    Attributes:
        init: (key, FeatureSpec) -> params, a (possibly empty) tree of arrays trained with the
            student.
        apply: (params, student_features [b, d] or name -> [b, d_name], teacher_features
            name -> [b, t], *, mask=None, logits=None) -> (scalar, Metrics). The scalar is what beta
            multiplies. `mask` [b] leaves padded rows out; `logits` [b, k] are the student's, for
            methods that compare predictions.
        reads_teachers: whether `apply` looks at the teachers' features; if not, a run needs no
            stores.
    """

    init: Callable[[jax.Array, FeatureSpec], PyTree]
    apply: Callable[..., tuple[jax.Array, Metrics]]
    reads_teachers: bool = True


class Batch(NamedTuple):
    """One batch as the step sees it; every leaf is a global array over the "data" axis.

    Attributes:
        inputs: [b, ...] what the student reads; a tree where that is more than one array.
        labels: [b] int32 class indices; -1 for a row without label, which only the regularizer
            sees.
        mask: [b] float32, 1 for a real row and 0 for padding.
        feature_mask: [b] float32, 1 for a real row that every teacher has features of; the
            regularizer sees no other.
        teacher_features: teacher name -> [b, t], joined by example id; empty when no teacher is
            used.
    """

    inputs: Any
    labels: jax.Array
    mask: jax.Array
    feature_mask: jax.Array
    teacher_features: Mapping[str, jax.Array]
