"""Methods that are fitted to the teachers' features before training: plain regularizers then.

A factory takes a method's options and returns its fit. What was fitted are constants of the two
functions of the regularizer; the same evidence gives the same constants on the same device and
versions, so that a run that was killed goes on there as it began.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aft_jax.errors import ConfigError, UsageError
from aft_jax.losses.map_parameters import init_ft_map
from aft_jax.losses.maps import ft_loss
from aft_jax.losses.predictions import btune_loss, logit_distillation_loss
from aft_jax.losses.regularizer import batch_mean, from_loss
from aft_jax.scores.logme import logme
from aft_jax.scores.probe import choose_probe
from aft_jax.training.autoencoder import encode, fit_encoder
from aft_jax.training.evidence import FIT_SEED, Evidence
from aft_jax.types import Array, FeatureSpec, Metrics, PyTree, Regularizer

_LOG = logging.getLogger(__name__)

Fit = Callable[[Evidence], Regularizer]


def ft(epochs: int = 500, patience: int = 10, width: int = 0) -> Fit:
    """Factor transfer: an MLP of the student's features meets the auto-encoded teachers: `ft_loss`.

    Each teacher has an auto-encoder of its own, fitted on train and stopped by its error on tune;
    the published code stops it on test.

    Args:
        epochs: of an auto-encoder's fit, at most.
        patience: epochs without a smaller error on tune before it stops.
        width: of a teacher's code; 0 for half of the teacher's width, at least 16.

    Returns:
        The fit; the regularizer's params are those of `init_ft_map`.

    Raises:
        ValueError: an option is out of its range.
    """
    for name, value, least in (
        ("epochs", epochs, 1),
        ("patience", patience, 1),
        ("width", width, 0),
    ):
        _require_count(name, value, least)

    def fit(evidence: Evidence) -> Regularizer:
        tune = evidence.tune().features
        encoders = {
            name: fit_encoder(
                *(name, features, tune[name]),
                seed=FIT_SEED,
                epochs=epochs,
                patience=patience,
                width=width,
            )
            for name, features in evidence.train.features.items()
        }
        codes = sum(encoder.layers[-1][1].shape[0] for encoder in encoders.values())

        def init(key: Array, spec: FeatureSpec) -> PyTree:
            return init_ft_map(key, spec.student_dim, codes)

        def loss(params, student_features, teacher_features, *, mask) -> Array:
            coded = {
                name: encode(encoder, _at_least_float32(teacher_features[name]))
                for name, encoder in encoders.items()
            }
            return ft_loss(params, student_features, coded, mask=mask)

        return from_loss(loss, init)

    return fit


def btune(temperature: float = 0.1) -> Fit:
    """B-Tuning: the student's posterior prediction follows the teachers', see `btune_loss`.

    LogME is fitted to the labelled rows of train, for every teacher and for the student as it
    starts. Where the start is random, that is the student of one seed, for runs of every seed.

    Args:
        temperature: of the teachers' weights; the smaller, the more the best one counts.

    Returns:
        The fit; the regularizer has no params.

    Raises:
        ValueError: the temperature is not positive.
    """
    _require_positive("temperature", temperature)

    def fit(evidence: Evidence) -> Regularizer:
        labels, classes = evidence.train.labels, evidence.num_classes
        own = _labelled_fit("btune", lambda: logme(evidence.student(), labels, classes))
        found = {
            name: _labelled_fit("btune", lambda features=features: logme(features, labels, classes))
            for name, features in evidence.train.features.items()
        }
        _LOG.info(
            "btune: LogME of the start student %.4f; of %s",
            own.score,
            ", ".join(f"{name} {one.score:.4f}" for name, one in found.items()),
        )

        def loss(params, student_features, teacher_features, *, mask) -> Array:
            return btune_loss(
                jnp.asarray(own.weights),
                {name: jnp.asarray(one.weights) for name, one in found.items()},
                {name: jnp.asarray(one.score) for name, one in found.items()},
                student_features,
                teacher_features,
                temperature=temperature,
                mask=mask,
            )

        return from_loss(loss, lambda key, spec: {})

    return fit


def kd_logits(temperature: float = 4.0) -> Fit:
    """Distillation of class probabilities, see `logit_distillation_loss`.

    The teacher is a linear probe on all teachers' features side by side, fitted to the labelled
    rows of train with the penalty that is best on tune.

    Args:
        temperature: of both sides' probabilities.

    Returns:
        The fit; the regularizer has no params.

    Raises:
        ValueError: the temperature is not positive.
    """
    _require_positive("temperature", temperature)

    def fit(evidence: Evidence) -> Regularizer:
        splits = evidence.train, evidence.tune()
        train, tune = (_side_by_side(rows.features) for rows in splits)
        labels = [rows.labels for rows in splits]
        probe = _labelled_fit(
            "kd_logits",
            lambda: choose_probe(train, labels[0], tune, labels[1], evidence.num_classes),
        )
        known = labels[1] >= 0
        right = np.argmax(probe.logits(tune[known]), axis=1) == labels[1][known]
        _LOG.info(
            "kd_logits: the probe on the teachers has accuracy %.2f %% on tune, with penalty %g",
            *(100 * float(np.mean(right)), probe.l2),
        )

        def apply(
            params, student_features, teacher_features, *, mask=None, logits: Any = None
        ) -> tuple[Array, Metrics]:
            loss = logit_distillation_loss(
                logits, probe.logits(_joined(teacher_features)), temperature=temperature, mask=mask
            )
            return loss, {"regularizer": batch_mean(loss, student_features, mask)}

        return Regularizer(lambda key, spec: {}, apply)

    return fit


FITTED: Mapping[str, Callable[..., Fit]] = {"ft": ft, "btune": btune, "kd_logits": kd_logits}
"""Method -> factory of its fit; keyword arguments are its options."""


def _side_by_side(features: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([features[name] for name in sorted(features)], axis=1)


def _joined(features: Mapping[str, jax.Array]) -> jax.Array:
    arrays = [_at_least_float32(features[name]) for name in sorted(features)]
    return jnp.concatenate(arrays, axis=1)


def _at_least_float32(features: jax.Array) -> jax.Array:
    return features.astype(jnp.promote_types(features.dtype, jnp.float32))


def _labelled_fit(method: str, fit: Callable[[], Any]) -> Any:
    """A fit to labels; that of too few of them is refused by rules of its own."""
    try:
        return fit()
    except UsageError:
        raise
    except ValueError as error:
        raise ConfigError(f"method {method!r} is fitted to labelled rows: {error}") from error


def _require_count(name: str, value: Any, least: int) -> None:
    if type(value) is not int or value < least:
        raise ValueError(f"{name} is a whole number, at least {least}; got {value!r}.")


def _require_positive(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{name} is a finite number above 0; got {value!r}.")
