"""Scores and intervals as they are printed everywhere: in pages, cards, tables and logs."""

from __future__ import annotations

import math


def shown(value: float) -> str:
    """Three digits, or ``n/a``."""
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """Three digits with their sign, or ``n/a``."""
    # + 0.0: no minus before a zero.
    return "n/a" if math.isnan(value) else f"{round(value, 3) + 0.0:+.3f}"


def interval_text(low: float, high: float, *, sign: str = "") -> str:
    """``[0.512, 0.701]``, or ``none`` where there is no interval."""
    return "none" if math.isnan(low) else f"[{low:{sign}.3f}, {high:{sign}.3f}]"
