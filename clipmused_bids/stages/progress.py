"""Progress of long stages: a bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
EpochReport = Callable[[dict[str, Any]], None]
SECONDS_BETWEEN_LINES = 60.0


@contextmanager
def warnings_only(hushed: bool) -> Iterator[None]:
    """Say warnings and errors of the stages only, where ``hushed``: what repeats itself was said once."""
    stages = logging.getLogger(__package__)
    before = stages.level
    if hushed:
        stages.setLevel(logging.WARNING)
    try:
        yield
    finally:
        stages.setLevel(before)


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


def epoch_report(n_epochs: int) -> EpochReport:
    """Return a function that logs an epoch's values: all of them in detail, once a minute how far one is.

    Parameters
    ----------
    n_epochs : int
        The most there can be.
    """
    last = time.monotonic()

    def say(values: dict[str, Any]) -> None:
        nonlocal last
        logger.debug("%s", ", ".join(f"{name} {_shown(value)}" for name, value in values.items()))
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            score = f", validation mAP {values['val_map']:.3f}" if "val_map" in values else ""
            logger.info("Training: epoch %s of at most %d%s.", _shown(values.get("epoch")), n_epochs, score)

    return say


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
