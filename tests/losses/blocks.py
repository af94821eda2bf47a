"""Small blocks for small batches."""

import contextlib
from collections.abc import Iterator

import pytest

from aft_jax.losses import pairs


@contextlib.contextmanager
def pairs_in_blocks(rows: int = 4, many: int = 0) -> Iterator[None]:
    """Blocks of so many of everyone's rows, wherever there are more than `many` pairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "MANY_PAIRS", many)
        patch.setattr(pairs, "BLOCK_PAIRS", 1)
        patch.setattr(pairs, "BLOCK_ROWS", rows)
        yield
