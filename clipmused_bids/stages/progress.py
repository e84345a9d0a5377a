"""Progress of long stages: a bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 60.0


def track(items: Sequence[Item], description: str, *, unit: str) -> Iterator[Item]:
    """Yield the items and say how far one is.

    Parameters
    ----------
    items : sequence
    description, unit : str
        What is done, to what.
    """
    if sys.stderr.isatty() and logger.isEnabledFor(logging.INFO):
        from rich.console import Console
        from rich.progress import track as bar

        yield from bar(items, description, console=Console(stderr=True), transient=True)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and done < len(items):
            left = (now - start) / done * (len(items) - done)
            logger.info(
                "%s: %d of %d %ss, about %.0f min left.", description, done, len(items), unit, left / 60
            )
            last = now
