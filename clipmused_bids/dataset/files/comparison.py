"""Naming what differs between what is stored and what is asked for, both sides each time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from clipmused_bids.dataset.files.documents import plain
from clipmused_bids.records import Grid

_ABSENT = object()
_LONGEST = 60
_MOST_NAMES = 5


def differences(
    stored: Mapping[str, Any],
    requested: Mapping[str, Any],
    *,
    sides: tuple[str, str] = ("stored", "requested"),
    stored_only: Literal["report", "accept"] = "report",
    ignore: Sequence[str] = (),
) -> tuple[str, ...]:
    """Name every difference between nested values, one line each, in the order of ``requested``.

    Parameters
    ----------
    stored, requested : mapping
        JSON values; tuples and arrays count as lists.
    sides : tuple of str
        What the two are called in the lines.
    stored_only : {"report", "accept"}
        Whether a top-level value that only ``stored`` has is a difference; deeper down it always is.
    ignore : sequence of str
        Dotted names that may differ, with everything below them (``responses.lag``).

    Returns
    -------
    tuple of str
        Empty where nothing differs. Grids (objects of ``shape`` and ``affine``) agree within 1e-3 mm.
    """
    left, right = plain(stored), plain(requested)
    names = list(right) + [name for name in left if name not in right and stored_only == "report"]
    lines: list[str] = []
    for name in names:
        lines += _compare(name, left.get(name, _ABSENT), right.get(name, _ABSENT), sides=sides, ignore=ignore)
    return tuple(lines)


def grid_fields(grid: Grid) -> dict[str, Any]:
    """Return a grid as JSON values, ``shape`` and ``affine``."""
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def grid_of(fields: Mapping[str, Any]) -> Grid:
    """Return the grid that :func:`grid_fields` described."""
    first, second, third = (int(n) for n in fields["shape"])
    return Grid(shape=(first, second, third), affine=np.array(fields["affine"], dtype=float))


def _compare(name: str, left: Any, right: Any, *, sides: tuple[str, str], ignore: Sequence[str]) -> list[str]:
    if name in ignore or _equal(left, right):
        return []
    if isinstance(left, dict) and isinstance(right, dict) and not _is_grid(left):
        lines: list[str] = []
        for key in [*right, *(key for key in left if key not in right)]:
            deeper = f"{name}.{key}"
            lines += _compare(
                deeper, left.get(key, _ABSENT), right.get(key, _ABSENT), sides=sides, ignore=ignore
            )
        return lines
    if _is_names(left) and _is_names(right):
        return [f"{name}: {_compare_names(left, right, sides=sides)}"]
    return [f"{name}: {sides[0]} {_shown(left)}, {sides[1]} {_shown(right)}"]


def _equal(left: Any, right: Any) -> bool:
    if _is_grid(left) and _is_grid(right):
        return grid_of(left).agrees_with(grid_of(right))
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    if isinstance(left, float) or isinstance(right, float):
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        return numbers and math.isclose(left, right, rel_tol=1e-9)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)


def _compare_names(left: list[str], right: list[str], *, sides: tuple[str, str]) -> str:
    parts = []
    for side, here, there in ((sides[0], left, right), (sides[1], right, left)):
        only = [item for item in here if item not in set(there)]
        if only:
            parts.append(f"only {side} has {_listed(only)}")
    if not parts:
        first = next(
            (k for k, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
            min(len(left), len(right)),
        )
        parts.append(f"the order or number differs from entry {first + 1} on")
    return f"{sides[0]} {len(left)}, {sides[1]} {len(right)}: {'; '.join(parts)}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "has none"
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _is_grid(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"shape", "affine"}


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(item, str) for item in value)
