"""Procedural scenes: objects in places, their pictures, captions and labels.

A scene is drawn from a generator, rendered at any size, and described by a small grammar. Objects of one
category share a silhouette and a surface texture; colour, position, size and background vary. Places make
some categories likelier than others, so that labels co-occur as they do in photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmused_bids.simulation.silhouettes import SILHOUETTES, TEXTURES

CATEGORIES = tuple(SILHOUETTES)
COLOURS = {
    "red": (0.85, 0.15, 0.15),
    "orange": (0.95, 0.55, 0.10),
    "yellow": (0.95, 0.88, 0.20),
    "green": (0.15, 0.60, 0.20),
    "blue": (0.15, 0.30, 0.85),
    "purple": (0.55, 0.20, 0.70),
    "white": (0.95, 0.95, 0.95),
    "brown": (0.45, 0.28, 0.12),
}
# Name, upper and lower colour, how a caption says it, categories that are at home there.
PLACES = (
    ("beach", (0.60, 0.80, 0.95), (0.85, 0.78, 0.55), "at the beach", ("boat", "fish", "ball", "kite")),
    ("forest", (0.35, 0.50, 0.35), (0.25, 0.32, 0.18), "in the forest", ("tree", "flower", "ladder", "fish")),
    ("street", (0.65, 0.68, 0.72), (0.38, 0.38, 0.40), "in the street", ("house", "ladder", "key", "ball")),
    ("kitchen", (0.85, 0.80, 0.70), (0.60, 0.45, 0.35), "in the kitchen", ("cup", "key", "flower", "fish")),
    ("meadow", (0.65, 0.80, 0.95), (0.45, 0.65, 0.30), "on the meadow", ("tree", "house", "kite", "flower")),
    ("night", (0.05, 0.05, 0.18), (0.12, 0.12, 0.20), "at night", ("moon", "star", "house", "boat")),
)
_AT_HOME = 5.0
_POPULARITY = np.linspace(1.5, 0.7, len(CATEGORIES))
# Share of scenes with one to four objects, and the half sizes of objects in them.
_N_OBJECTS = (0.2, 0.4, 0.3, 0.1)
_SIZES = ((0.18, 0.38), (0.15, 0.28), (0.14, 0.24), (0.13, 0.20))


@dataclass(frozen=True)
class SceneObject:
    """One object: ``x``, ``y`` of its centre and its half ``size``, in image widths (y downwards)."""

    category: str
    colour: str
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class Scene:
    """A place with objects; ``seed`` fixes the grain of the background and the wording of captions."""

    place: int
    objects: tuple[SceneObject, ...]
    seed: int


def draw_scenes(n_scenes: int, *, seed: int, n_objects: int | None = None) -> tuple[Scene, ...]:
    """Draw scenes; the same seed gives the same scenes.

    Parameters
    ----------
    n_scenes : int
    seed : int
    n_objects : int, optional
        Objects of every scene; by default one to four.
    """
    rng = np.random.default_rng([seed, 1])
    return tuple(_draw_scene(rng, n_objects=n_objects) for _ in range(n_scenes))


def _draw_scene(rng: np.random.Generator, *, n_objects: int | None) -> Scene:
    place = int(rng.integers(len(PLACES)))
    count = n_objects or 1 + int(rng.choice(len(_N_OBJECTS), p=_N_OBJECTS))
    at_home = np.array([_AT_HOME if category in PLACES[place][4] else 1.0 for category in CATEGORIES])
    weights = at_home * _POPULARITY
    chosen = rng.choice(len(CATEGORIES), size=count, replace=False, p=weights / weights.sum())
    objects: list[SceneObject] = []
    for category in chosen:
        size = float(rng.uniform(*_SIZES[count - 1]))
        x, y = _free_position(rng, size=size, others=objects)
        colour = tuple(COLOURS)[int(rng.integers(len(COLOURS)))]
        objects.append(SceneObject(CATEGORIES[category], colour, x, y, size))
    return Scene(place=place, objects=tuple(objects), seed=int(rng.integers(2**31)))


def _free_position(
    rng: np.random.Generator, *, size: float, others: Sequence[SceneObject]
) -> tuple[float, float]:
    candidates = rng.uniform(size, 1 - size, size=(40, 2))
    room = np.full(len(candidates), np.inf)
    for other in others:
        distance = np.hypot(candidates[:, 0] - other.x, candidates[:, 1] - other.y)
        room = np.minimum(room, distance - 0.9 * (size + other.size))
    free = np.flatnonzero(room >= 0)
    best = free[0] if len(free) else int(np.argmax(room))
    return float(candidates[best, 0]), float(candidates[best, 1])


def render(scene: Scene, *, size: int = 64) -> NDArray[np.uint8]:
    """Paint a scene.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
        RGB; edges are smoothed by painting at twice the size.
    """
    canvas = _background(scene, size=2 * size)
    for item in scene.objects:
        _paint(canvas, item)
    small = canvas.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
    picture: NDArray[np.uint8] = np.round(255 * np.clip(small, 0, 1)).astype(np.uint8)
    return picture


def _background(scene: Scene, *, size: int) -> NDArray[np.float64]:
    rng = np.random.default_rng([scene.seed, 2])
    _, upper, lower, _, _ = PLACES[scene.place]
    ramp = np.linspace(0, 1, size)[:, None, None]
    horizon = rng.uniform(0.35, 0.65)
    share = 1 / (1 + np.exp(-12 * (ramp - horizon)))
    grain = np.kron(rng.normal(scale=0.04, size=(size // 4, size // 4)), np.ones((4, 4)))
    light = rng.uniform(0.85, 1.1)
    image: NDArray[np.float64] = (
        light * ((1 - share) * np.array(upper) + share * np.array(lower)) + grain[..., None]
    )
    return image


def _paint(canvas: NDArray[np.float64], item: SceneObject) -> None:
    width = len(canvas)
    columns = _span(item.x, item.size, width)
    rows = _span(item.y, item.size, width)
    x = ((columns + 0.5) / width - item.x)[None, :] / item.size
    y = (item.y - (rows + 0.5) / width)[:, None] / item.size
    x, y = np.broadcast_arrays(x, y)
    inside = SILHOUETTES[item.category](x, y)
    light = 0.8 + 0.35 * TEXTURES[item.category](x, y) + 0.1 * y
    window = canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    window[inside] = (light[..., None] * np.array(COLOURS[item.colour]))[inside]


def _span(centre: float, half: float, width: int) -> NDArray[np.int64]:
    return np.arange(max(0, int((centre - half) * width)), min(width, int((centre + half) * width) + 1))


def label_matrix(scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """Tell which categories each scene shows, as 0/1 of shape (n_scenes, 12)."""
    labels = np.zeros((len(scenes), len(CATEGORIES)), dtype=np.int64)
    for row, scene in enumerate(scenes):
        labels[row, [CATEGORIES.index(item.category) for item in scene.objects]] = 1
    return labels


def captions(scene: Scene, *, n_captions: int = 2) -> tuple[str, ...]:
    """Describe a scene in sentences of a small grammar; every sentence names every object and the place."""
    rng = np.random.default_rng([scene.seed, 3])
    return tuple(_caption(scene, rng) for _ in range(n_captions))


def _caption(scene: Scene, rng: np.random.Generator) -> str:
    phrases = [_phrase(scene.objects[k], rng) for k in rng.permutation(len(scene.objects))]
    listed = phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    opening = ("", "a photo of ", "there is ")[int(rng.integers(3))]
    return f"{opening}{listed} {PLACES[scene.place][3]}"


def _phrase(item: SceneObject, rng: np.random.Generator) -> str:
    words = []
    if rng.random() < 0.5:
        words.append("large" if item.size > 0.2 else "small")
    if rng.random() < 0.8:
        words.append(item.colour)
    article = "an" if words and words[0][0] in "aeiou" else "a"
    where = ""
    if rng.random() < 0.3:
        where = " on the left" if item.x < 0.5 else " on the right"
    return f"{article} {' '.join([*words, item.category])}{where}"
