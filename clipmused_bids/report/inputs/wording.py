"""Numbers as they are said on a page."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def share(part: int, whole: int) -> str:
    """Percent of a whole: ``12 %``; a dash where there is no whole."""
    return f"{100 * part / whole:.0f}\u00a0%" if whole else "–"


def counted(n: int, word: str, plural: str = "") -> str:
    """``1 run``, ``2 runs``, ``1,200 trials``."""
    return f"{n:,} {word if n == 1 else plural or word + 's'}"


def listed(names: Iterable[str], *, most: int = 5) -> str:
    """Names with commas; of many the first ones."""
    every = list(names)
    rest = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + rest


def spread(values: Iterable[float], *, digits: int = 3) -> str:
    """One number, or the smallest and the largest: ``2``, ``1.5 to 2``."""
    every = np.asarray(list(values), dtype=float)
    low, high = (f"{value:.{digits}g}" for value in (every.min(), every.max()))
    return low if low == high else f"{low} to {high}"
