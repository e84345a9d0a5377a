"""Numbers in words, lists with commas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# Plurals that no rule gives.
_PLURALS = {"stimulus": "stimuli"}


def count(n: int, noun: str) -> str:
    """``1 trial``, ``2,000 trials``."""
    return f"{n:,} {noun if n == 1 else _PLURALS.get(noun, noun + 's')}"


def span(values: Iterable[float]) -> str:
    """One number where all are equal, else the lowest and the highest."""
    found = sorted(set(values))
    return number(found[0]) if len(found) == 1 else f"{number(found[0])} to {number(found[-1])}"


def number(value: float) -> str:
    """Integers with thousands separated, others with four digits."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.4g}"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
