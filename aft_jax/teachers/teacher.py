"""The teacher seam: features of examples, and an identity that a feature store can be held to."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aft_jax.data import Example


class TeacherIdentity(NamedTuple):
    """Everything that decides a teacher's features; two equal identities give equal features.

    Attributes:
        id: model id, with the options that decide its function but not its weights.
        revision: of the model's weights at their source; "" where there is none.
        weights_sha256: hash of the weights.
        preprocessing: what is done to an example before the model sees it.
        pooling: which of the model's features.
    """

    id: str
    revision: str
    weights_sha256: str
    preprocessing: str
    pooling: str


class Teacher(NamedTuple):
    """A frozen model.

    Attributes:
        identity: what its features depend on.
        prepare: b examples -> what `features` reads. Runs on the host, in several threads, for the
            next batches while the model is at work on one.
        features: what `prepare` made -> part of the model ("image", "text"; "pooled" where there
            is one part only) -> [b, t] features of any float dtype, on the host.
        parameters: number of weights, for reports.
    """

    identity: TeacherIdentity
    prepare: Callable[[Sequence[Example]], Any]
    features: Callable[[Any], Mapping[str, np.ndarray]]
    parameters: int
