"""Numbers as a reader of a report sees them."""

import math
from collections.abc import Sequence

_MINUS = "\N{MINUS SIGN}"


def percent(fraction: float, decimals: int = 2) -> str:
    """A fraction in percent, without the percent sign: 0.9123 -> "91.23"."""
    return f"{100 * fraction:.{decimals}f}".replace("-", _MINUS)


def points(fraction: float) -> str:
    """A difference of fractions in percentage points, signed: 0.0123 -> "+1.23".

    Two decimals, or as many more (up to six) as a value other than zero needs to differ from it:
    the bound of an interval that excludes zero is never shown as 0.00.
    """
    # Rounding first: what is left of sums that cancel (1e-17) is a zero.
    value = round(100 * fraction, 6)
    decimals = 2
    while value != 0 and float(f"{value:.{decimals}f}") == 0:
        decimals += 1
    text = f"{value:+.{decimals}f}"
    if float(text) == 0:
        text = text[1:]
    return text.replace("-", _MINUS)


def spread(mean: float, std: float) -> str:
    """A mean and its spread in percent, (0.912, 0.003) -> "91.20 % ± 0.30"; without one for NaN."""
    return f"{percent(mean)} %" if math.isnan(std) else f"{percent(mean)} % ± {percent(std)}"


def p_value(value: float) -> str:
    """A p-value: 0.0312 -> "0.031", 0.0002 -> "< 0.001"."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def number(value: float) -> str:
    """A number as short as six digits allow: 3.0 -> "3", 0.0001 -> "0.0001"."""
    return f"{value:.6g}".replace("-", _MINUS)


def rounded(value: float) -> str:
    """A number to three digits: 322.8 -> "323", 0.01234 -> "0.0123"."""
    return number(float(f"{value:.3g}"))


def whole(count: int) -> str:
    """A count with thousands separated: 98765 -> "98,765"."""
    return f"{count:,}"


def quantity(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: (1, "seed") -> "1 seed", (2, "class", "classes") -> "2 classes"."""
    return f"{whole(count)} {noun}" if count == 1 else f"{whole(count)} {plural or noun + 's'}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it: 0.42 -> "0.42 s", 75 -> "1 min 15 s", 7500 -> "2 h 5 min".

    Args:
        seconds: the time.

    Returns:
        The words for it.
    """
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def listed(items: Sequence[str]) -> str:
    """Items in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))
