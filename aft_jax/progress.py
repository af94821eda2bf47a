"""Progress with rate and time left: a bar on a terminal, plain lines elsewhere."""

import sys
from typing import Any

from tqdm import tqdm

from aft_jax.distributed import is_first

LINE_SECONDS = 10.0


def progress_bar(total: int, description: str, unit: str) -> tqdm:
    """A tqdm bar on standard error.

    Args:
        total: units in all.
        description: what is being done.
        unit: what is counted.

    Returns:
        The bar; where standard error is no terminal it prints a line at most every ten seconds. Of
        several processes the first one's shows.
    """
    common: dict[str, Any] = {"total": total, "desc": description, "unit": unit}
    if not is_first():
        return tqdm(**common, disable=True)
    if sys.stderr.isatty():
        return tqdm(**common, dynamic_ncols=True)
    return tqdm(
        **common, file=_Lines(), ncols=100, mininterval=LINE_SECONDS, maxinterval=LINE_SECONDS
    )


class _Lines:
    """A text file that turns tqdm's redrawing into lines."""

    def write(self, text: str) -> int:
        line = text.strip()
        if line:
            print(line, file=sys.stderr, flush=True)
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()
