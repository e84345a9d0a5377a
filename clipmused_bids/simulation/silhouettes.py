"""Outline and surface of each kind of object.

Coordinates are the object's own: x to the right, y upwards, both from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.records import BoolArray

_Plane = NDArray[np.float64]


def _box(x: _Plane, y: _Plane, *, left: float, right: float, bottom: float, top: float) -> BoolArray:
    return (x >= left) & (x <= right) & (y >= bottom) & (y <= top)


def _disc(x: _Plane, y: _Plane, *, x0: float = 0.0, y0: float = 0.0, radius: float) -> BoolArray:
    inside: BoolArray = (x - x0) ** 2 + (y - y0) ** 2 <= radius**2
    return inside


def _peak(x: _Plane, y: _Plane, *, bottom: float, top: float, half: float, x0: float = 0.0) -> BoolArray:
    """Triangle with its tip up."""
    return (y >= bottom) & (y <= top) & (np.abs(x - x0) * (top - bottom) <= half * (top - y))


def _house(x: _Plane, y: _Plane) -> BoolArray:
    walls = _box(x, y, left=-0.7, right=0.7, bottom=-0.95, top=0.15)
    door = _box(x, y, left=-0.15, right=0.2, bottom=-0.95, top=-0.35)
    return (walls & ~door) | _peak(x, y, bottom=0.15, top=0.95, half=0.95)


def _tree(x: _Plane, y: _Plane) -> BoolArray:
    trunk = _box(x, y, left=-0.14, right=0.14, bottom=-1.0, top=-0.4)
    crown = _peak(x, y, bottom=-0.5, top=0.35, half=0.85) | _peak(x, y, bottom=0.0, top=0.98, half=0.62)
    return trunk | crown


def _fish(x: _Plane, y: _Plane) -> BoolArray:
    body = (x + 0.2) ** 2 / 0.62 + y**2 / 0.2 <= 1
    tail = (x >= 0.4) & (x <= 0.98) & (np.abs(y) <= 0.9 * (x - 0.4) + 0.05)
    eye = _disc(x, y, x0=-0.62, y0=0.1, radius=0.09)
    return (body | tail) & ~eye


def _petals(x: _Plane, y: _Plane, *, base: float, swing: float, count: int) -> BoolArray:
    inside: BoolArray = np.hypot(x, y) <= base + swing * np.cos(count * np.arctan2(x, y))
    return inside


def _star(x: _Plane, y: _Plane) -> BoolArray:
    angle = np.mod(np.arctan2(x, y) + np.pi / 5, 2 * np.pi / 5) - np.pi / 5
    r = np.hypot(x, y)
    inside: BoolArray = r * np.cos(angle) + 1.55 * r * np.abs(np.sin(angle)) <= 0.97
    return inside


def _cup(x: _Plane, y: _Plane) -> BoolArray:
    bowl = _box(x, y, left=-0.8, right=0.35, bottom=-0.8, top=0.7)
    handle = _disc(x, y, x0=0.4, radius=0.5) & ~_disc(x, y, x0=0.4, radius=0.28) & (x > 0.3)
    return bowl | handle


def _key(x: _Plane, y: _Plane) -> BoolArray:
    bow = _disc(x, y, x0=-0.55, radius=0.42) & ~_disc(x, y, x0=-0.55, radius=0.18)
    blade = _box(x, y, left=-0.15, right=0.98, bottom=-0.1, top=0.1)
    teeth = _box(x, y, left=0.45, right=0.6, bottom=-0.45, top=0.0)
    return bow | blade | teeth | _box(x, y, left=0.75, right=0.9, bottom=-0.45, top=0.0)


def _ladder(x: _Plane, y: _Plane) -> BoolArray:
    rails = (np.abs(np.abs(x) - 0.5) <= 0.12) & (np.abs(y) <= 0.97)
    rungs = (np.abs(x) <= 0.5) & (np.abs(np.mod(y + 0.25, 0.5) - 0.25) <= 0.09) & (np.abs(y) <= 0.9)
    return rails | rungs


def _boat(x: _Plane, y: _Plane) -> BoolArray:
    hull = _disc(x, y, y0=-0.15, radius=0.85) & (y <= -0.3)
    mast = _box(x, y, left=-0.06, right=0.06, bottom=-0.3, top=0.95)
    sail = (x >= 0.1) & (y >= -0.15) & (x * 1.2 <= 0.9 - y)
    return hull | mast | sail


def _kite(x: _Plane, y: _Plane) -> BoolArray:
    sheet = np.abs(x) / 0.65 + np.abs(y - 0.3) / 0.68 <= 1
    string = (np.abs(x - 0.2 * np.sin(6 * y)) <= 0.08) & (y <= -0.3)
    return sheet | string


SILHOUETTES: dict[str, Callable[[_Plane, _Plane], BoolArray]] = {
    "ball": lambda x, y: _disc(x, y, radius=0.92),
    "house": _house,
    "tree": _tree,
    "fish": _fish,
    "flower": lambda x, y: _petals(x, y, base=0.62, swing=0.34, count=6),
    "star": _star,
    "moon": lambda x, y: _disc(x, y, radius=0.95) & ~_disc(x, y, x0=0.45, y0=0.1, radius=0.75),
    "cup": _cup,
    "key": _key,
    "ladder": _ladder,
    "boat": _boat,
    "kite": _kite,
}

# Light and dark of the surface, between -1 and 1.
TEXTURES: dict[str, Callable[[_Plane, _Plane], _Plane]] = {
    "ball": lambda x, y: np.sign(np.sin(9 * (x + y))),
    "house": lambda x, y: np.sign(np.sin(14 * y) + 0.9 * np.sin(7 * x)),
    "tree": lambda x, y: np.sin(16 * x + 3 * np.sin(9 * y)),
    "fish": lambda x, y: np.sign(np.sin(12 * x) * np.sin(12 * y)),
    "flower": lambda x, y: np.cos(9 * np.hypot(x, y)),
    "star": lambda x, y: np.cos(5 * np.arctan2(x, y)),
    "moon": lambda x, y: np.where(np.sin(8 * x + 2) * np.sin(8 * y + 1) > 0.45, -1.0, 0.4),
    "cup": lambda x, y: np.sign(np.sin(13 * x)) + 0 * y,
    "key": lambda x, y: 0.8 * np.ones_like(x) + 0 * y,
    "ladder": lambda x, y: -0.6 * np.ones_like(x) + 0 * y,
    "boat": lambda x, y: np.where(y > -0.2, 1.0, np.sign(np.sin(20 * y))) + 0 * x,
    "kite": lambda x, y: np.sign(x) * np.sign(y - 0.3),
}
