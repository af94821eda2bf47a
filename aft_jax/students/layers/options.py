"""Checks of the options that architectures share; their errors name the option."""

from collections.abc import Iterable
from typing import Any


def check_positive(**values: Any) -> None:
    """Refuses what is no positive integer.

    Args:
        **values: option -> value.

    Raises:
        ValueError: a value is something else.
    """
    for name, value in values.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} is a positive integer; got {value!r}")


def check_flags(**values: Any) -> None:
    """Refuses what is neither true nor false.

    Args:
        **values: option -> value.

    Raises:
        ValueError: a value is something else.
    """
    for name, value in values.items():
        if type(value) is not bool:
            raise ValueError(f"{name} is True or False; got {value!r}")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuses what is not among the choices, listing them.

    Args:
        name: of the option.
        value: what arrived.
        choices: what may arrive.

    Raises:
        ValueError: the value is none of them.
    """
    if value not in tuple(choices):
        raise ValueError(f"{name} is one of {', '.join(map(repr, choices))}; got {value!r}")


def check_share(name: str, value: Any) -> None:
    """Refuses what is no share of a whole.

    Args:
        name: of the option.
        value: what arrived.

    Raises:
        ValueError: it is no number that is at least 0 and less than 1.
    """
    if type(value) not in (int, float) or not 0 <= value < 1:
        raise ValueError(f"{name} is a share, at least 0 and less than 1; got {value!r}")


def check_heads(width: int, heads: int) -> None:
    """Refuses a width that the attention heads cannot share.

    Args:
        width: of a token.
        heads: of the attention.

    Raises:
        ValueError: the heads do not divide it.
    """
    if width % heads:
        raise ValueError(f"width is a multiple of heads; got {width} for {heads} heads")


def check_epsilon(value: Any) -> None:
    """Refuses an epsilon of a norm that is no positive number.

    Args:
        value: what arrived.

    Raises:
        ValueError: it is something else.
    """
    if type(value) not in (int, float) or not 0 < value < 1:
        raise ValueError(f"epsilon is a number above 0 and below 1; got {value!r}")
