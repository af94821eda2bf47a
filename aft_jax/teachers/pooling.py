"""A row of features out of the states of a network's tokens or places (torch tensors)."""

from typing import Any

from aft_jax.errors import ConfigError


def pool(states: Any, how: str, mask: Any = None, prefix: int = 0) -> Any:
    """Pools the states of one layer.

    Args:
        states: [b, l, t] tokens, or the [b, t, h, w] map of a convolutional network.
        how: "cls", "mean" or "last_token".
        mask: [b, l], 1 where a token is no padding, on either side; None where there is none.
        prefix: leading tokens that stand for no place of the image: class token and registers.
            The mean leaves them out.

    Returns:
        [b, t] features in float32.

    Raises:
        ConfigError: a map has no such pooling.
    """
    if states.ndim == 4:
        if how != "mean":
            raise ConfigError(
                "config.teachers.*.pooling of a model with feature maps, which has no tokens, is "
                f"one of mean, pooler, model; got {how!r}."
            )
        return states.float().mean((2, 3))
    states = states.float()
    if mask is None:
        return {
            "cls": lambda: states[:, 0],
            "mean": lambda: states[:, prefix:].mean(1),
            "last_token": lambda: states[:, -1],
        }[how]()
    return _pool_masked(states, how, mask.to(states.dtype))


def _pool_masked(states: Any, how: str, mask: Any) -> Any:
    if how == "mean":
        return (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    # argmax is the first of equals: the first token that counts, from the left or from the right.
    first = mask.argmax(1)
    last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
    rows = list(range(len(states)))
    return states[rows, first if how == "cls" else last]
