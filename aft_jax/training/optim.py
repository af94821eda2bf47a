"""The optimizer: one Adam for the student, one for the regularizer's parameters, one schedule."""

import optax

from aft_jax.config import OptimConfig


def schedule(peak: float, warmup_steps: int, steps: int) -> optax.Schedule:
    """Linear warm-up from zero, then cosine decay to zero, per step.

    Args:
        peak: learning rate at the end of the warm-up.
        warmup_steps: its length.
        steps: optimizer steps in all.

    Returns:
        step -> learning rate.
    """
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup_steps, max(steps, warmup_steps + 1))


STUDENTS_RATE = ("kd", "rkd", "ft")
"""Methods whose own parameters the published code trains at the student's rate."""


def regularizer_peak(config: OptimConfig, method: str) -> float:
    """The peak learning rate of a method's own parameters: see `STUDENTS_RATE`.

    Args:
        config: rates.
        method: name of the method.

    Returns:
        The rate.
    """
    return config.learning_rate if method in STUDENTS_RATE else config.scales_learning_rate


def make_optimizer(config: OptimConfig, method: str, steps: int) -> optax.GradientTransformation:
    """The optimizer of a tree {"student": ..., "regularizer": ...}.

    Args:
        config: rates.
        method: name of the method.
        steps: optimizer steps in all.

    Returns:
        AdamW on the student; Adam without weight decay on the regularizer (its learned scales, its
        maps), with the student's schedule at its own peak.
    """
    student = schedule(config.learning_rate, config.warmup_steps, steps)
    regularizer = schedule(regularizer_peak(config, method), config.warmup_steps, steps)
    return optax.partition(
        {
            "student": optax.adamw(student, weight_decay=config.weight_decay),
            "regularizer": optax.adam(regularizer),
        },
        {"student": "student", "regularizer": "regularizer"},
    )
