"""How a run is stepped: ours, or the published code's under `config.official_quirks`.

The one place that asks which; the loop and the step below it do not know.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from aft_jax.config import Config
from aft_jax.data import OfficialOrder, Order, RowOrder, require_whole_batch
from aft_jax.training import quirks
from aft_jax.training.optim import make_optimizer, schedule
from aft_jax.types import Regularizer


class Protocol(NamedTuple):
    """What the loop asks of a config, but for its seed and beta.

    Attributes:
        steps: optimizer steps of the run; under quirks those of whole epochs.
        order: seed -> which rows each step has.
        optimizer: of the tree {"student": ..., "regularizer": ...}.
        rate: step -> the student's learning rate.
        regularizer: the method as this protocol trains it.
    """

    steps: int
    order: Callable[[int], Order]
    optimizer: optax.GradientTransformation
    rate: Callable[[int], Any]
    regularizer: Regularizer


def make_protocol(config: Config, rows: int, regularizer: Regularizer) -> Protocol:
    """The protocol of a run.

    Args:
        config: the run's config.
        rows: n, examples of its training split.
        regularizer: its method.

    Returns:
        The protocol.

    Raises:
        ConfigError: the split is smaller than a batch; or, under quirks, the steps are not half an
            epoch, or scales are dense under a tensor product.
    """
    make = _official if config.official_quirks else _ours
    return make(config, rows, regularizer)


def _ours(config: Config, rows: int, regularizer: Regularizer) -> Protocol:
    require_whole_batch(rows, config.batch_size)
    optim = config.optim
    return Protocol(
        steps=config.steps,
        order=functools.partial(RowOrder, rows, config.batch_size),
        optimizer=make_optimizer(optim, config.method, config.steps),
        rate=schedule(optim.learning_rate, optim.warmup_steps, config.steps),
        regularizer=regularizer,
    )


def _official(config: Config, rows: int, regularizer: Regularizer) -> Protocol:
    steps_per_epoch = OfficialOrder(rows, config.batch_size, config.seed).steps_per_epoch
    epochs = quirks.whole_epochs(config.steps, steps_per_epoch)
    optim = config.optim
    return Protocol(
        steps=epochs * steps_per_epoch,
        order=functools.partial(OfficialOrder, rows, config.batch_size),
        optimizer=quirks.official_optimizer(optim, config.method, epochs, steps_per_epoch),
        rate=quirks.epoch_cosine(optim.learning_rate, epochs, steps_per_epoch),
        regularizer=quirks.official_regularizer(config, regularizer),
    )
