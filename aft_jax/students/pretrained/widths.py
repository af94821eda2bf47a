"""Channels of the stages of a convolutional network, as a config.json lists them."""

from collections.abc import Sequence


def first_width(key: str, widths: Sequence[int], multiple: int = 1) -> int:
    """The first stage's channels, where each stage has twice as many as the one before.

    Args:
        key: of the config.json, for the message.
        widths: channels of each stage.
        multiple: what the first is a multiple of.

    Returns:
        The first of them.

    Raises:
        ValueError: they are others.
    """
    if not widths:
        raise ValueError(f"{key} has a number for every stage; got none")
    first = widths[0]
    if list(widths) != [first * 2**stage for stage in range(len(widths))] or first % multiple:
        raise ValueError(
            f"{key} double from stage to stage, from a multiple of {multiple}; got {list(widths)}"
        )
    return first
